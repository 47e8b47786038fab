package layering

// rule forbids imports. A pattern is a path inside this module ("server"), or of a library
// or the standard library ("std:os", "lib:github.com/spf13/cobra"); it covers what lies
// below it too. Special patterns: "module" is all of this module, "lib:" every library.
//
// What is forbidden inside this module is looked for along whole chains of imports, up to
// what the rule excepts, which has rules of its own. What is forbidden outside of it is
// looked for among direct imports: the generated code in proto imports gRPC, and with it
// everybody the network.
type rule struct {
	from   []string // who; with but: "everybody but"
	but    []string
	forbid []string // may not import this ...
	except []string // ... but for this; who is always free to import itself
	why    string
}

// pure is what a function of its arguments cannot use.
var pure = []string{
	"std:os", "std:io/fs", "std:net", "std:syscall", "std:log", "std:math/rand", "std:crypto/rand",
	"std:hash/maphash", "std:runtime", "lib:google.golang.org/grpc", "lib:golang.org/x/sys", "lib:github.com/google/uuid",
}

var rules = []rule{
	// Who may know whom.
	{from: []string{"proto"}, forbid: []string{"module"},
		why: "proto is the schema: everybody imports it, so it knows nobody"},
	{from: []string{"problem"}, forbid: []string{"module"}, except: []string{"proto"},
		why: "problems cross every wall: everybody imports problem, so it knows the wire form and nobody else"},
	{from: []string{"topology"}, forbid: []string{"module", "lib:"},
		why: "topology is plain values that the scheduler, the FSM and the agent share"},
	{from: []string{"diskimage"}, forbid: []string{"module"}, except: []string{"proto", "problem"},
		why: "servers and drivers judge images by the same code; it knows bytes only"},
	{from: []string{"jobspec"}, forbid: []string{"module"}, except: []string{"proto", "problem"},
		why: "a spec is text that becomes a Job; it knows no cluster"},
	{from: []string{"scheduler"}, forbid: []string{"module"}, except: []string{"topology", "proto", "problem"},
		why: "the scheduler is used by the servers, by what-if questions and by simulations alike"},
	{from: []string{"server"}, forbid: []string{"module"},
		except: []string{"scheduler", "jobspec", "topology", "diskimage", "proto", "problem"},
		why:    "servers decide and run nothing; they meet agents and clients in the proto only"},
	{from: []string{"agent"}, forbid: []string{"module"},
		except: []string{"drivers", "plugins", "topology", "diskimage", "proto", "problem"},
		why:    "an agent runs what was decided; it meets servers in the proto only"},
	{from: []string{"drivers"}, forbid: []string{"module"}, except: []string{"topology", "diskimage", "proto", "problem"},
		why: "a driver knows the contract and its host, so that it can live out of process"},
	{from: []string{"plugins"}, forbid: []string{"module"}, except: []string{"drivers", "topology", "diskimage", "proto", "problem"},
		why: "plugins carry the driver contract over a wire, and nothing else"},
	{from: []string{"client"}, forbid: []string{"module"}, except: []string{"proto", "problem"},
		why: "other programs import the client: it carries the API and nothing of the house"},
	{from: []string{"cmd"}, forbid: []string{"module"}, except: []string{"command"},
		why: "main is nothing but the call into command"},
	{but: []string{"cmd", "command", "e2e"}, forbid: []string{"command"},
		why: "command composes the program; nobody builds on it"},
	{but: []string{"e2e", "hack", "internal/layering"}, forbid: []string{"e2e", "hack", "internal/layering"},
		why: "tests and tools are no part of the product"},

	// Never, by no chain.
	{from: []string{"server"}, forbid: []string{"agent", "drivers", "plugins", "client"},
		why: "servers and agents are versions apart and hosts apart: they meet in the proto only"},
	{from: []string{"agent", "drivers", "plugins"}, forbid: []string{"server", "scheduler", "jobspec", "client"},
		why: "servers and agents are versions apart and hosts apart: they meet in the proto only"},
	{from: []string{"drivers", "plugins"}, forbid: []string{"agent"},
		why: "the agent calls drivers; a driver that calls back cannot live out of process"},

	// Purity.
	{from: []string{"topology", "scheduler"}, forbid: pure,
		why: "same input, same output: no I/O, clock, log or randomness"},
	{from: []string{"server/state", "server/fsm"},
		forbid: []string{"std:os", "std:net", "std:syscall", "std:math/rand", "std:crypto/rand", "std:hash/maphash"},
		why:    "every server applies the same log to the same state: no I/O and no randomness"},

	// One place for each library, so that it can be replaced there.
	{but: []string{"server"}, forbid: []string{"lib:github.com/hashicorp/raft"},
		why: "consensus is the servers' affair"},
	{but: []string{"server/consensus"}, forbid: []string{"lib:github.com/hashicorp/memberlist", "lib:github.com/hashicorp/raft-wal"},
		why: "gossip and the log store live behind server/consensus"},
	{but: []string{"server/consensus", "agent/store"}, forbid: []string{"lib:go.etcd.io/bbolt"},
		why: "files of state have one owner each: Raft's stable store and the agent's store"},
	{but: []string{"command"}, forbid: []string{"lib:github.com/spf13/cobra"},
		why: "flags and help belong to the program"},
	{but: []string{"jobspec", "command"}, forbid: []string{"lib:github.com/hashicorp/hcl"},
		why: "people's text is read in jobspec and, for config files, in command; the rest gets messages"},
	{but: []string{"jobspec", "command", "drivers/cloudinit"}, forbid: []string{"lib:github.com/goccy/go-yaml"},
		why: "people's text is read in jobspec and, for config files, in command; a cloud-config is YAML to the end"},
	{but: []string{"drivers/cloudinit"}, forbid: []string{"lib:github.com/kdomanski/iso9660"},
		why: "small media are made in one place"},
	{but: []string{"plugins"}, forbid: []string{"lib:github.com/hashicorp/go-plugin"},
		why: "the plugin wire lives behind package plugins"},
	{but: []string{"drivers/qemu/qmp"}, forbid: []string{"lib:github.com/digitalocean/go-qemu"},
		why: "QEMU's monitor is spoken in one place, with deadlines (docs/adr/0012)"},
	{but: []string{"drivers/qemu/image"}, forbid: []string{"lib:github.com/google/go-containerregistry"},
		why: "registries are spoken to where images are fetched (container images will be too)"},
	{but: []string{"agent/artifact"}, forbid: []string{"lib:github.com/hashicorp/go-getter"},
		why: "what is fetched is fetched in one place, with all that is not wanted of it turned off"},
	{but: []string{"agent/dns"}, forbid: []string{"lib:github.com/miekg/dns"},
		why: "names are answered in one place"},
	{but: []string{"jobspec/cron"}, forbid: []string{"lib:github.com/robfig/cron"},
		why: "what a cron expression means across a clock's change is decided in one place"},
	{but: []string{"agent", "drivers"}, forbid: []string{"lib:github.com/vishvananda/netlink", "lib:github.com/shirou/gopsutil"},
		why: "only what runs on a host looks at it or changes it"},
	{but: []string{"hack"}, forbid: []string{"lib:github.com/pkg/errors", "lib:github.com/stretchr/testify", "lib:github.com/golang/protobuf", "lib:github.com/sirupsen/logrus"},
		why: "the standard library (or google.golang.org/protobuf) does it"},
}

// vagueNames say nothing about what a package is for; what is in one belongs elsewhere.
var vagueNames = []string{"util", "utils", "common", "types", "misc", "helper", "helpers", "base", "lib"}
