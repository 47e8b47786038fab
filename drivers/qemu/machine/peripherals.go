package machine

import (
	"fmt"

	"github.com/berthd/berth/drivers/cloudinit"
)

// console writes the serial console, the QMP sockets and the agent's channel.
func (b *builder) channels() error {
	b.chardev(SerialID, ConsoleSocket, "logfile="+ConsoleLog, "logappend=on")
	b.raw("serial", "chardev:"+SerialID)
	for i, path := range []string{QMPSocket, SpareQMPSocket} {
		id := fmt.Sprintf("qmp%d", i)
		b.chardev(id, path)
		b.flag("mon", "chardev="+id, "mode=control")
	}
	agent, ready := yes(b.in.Config.GuestAgent), b.in.Config.GetReady() == "phone-home"
	if !agent && !ready {
		return nil
	}
	if agent {
		b.chardev(AgentID, AgentSocket)
	}
	if err := b.integrated(props{{"driver", b.board.virtio("serial")}, {"id", "channels"}}); err != nil {
		return err
	}
	if agent {
		b.guestPort(AgentID, "org.qemu.guest_agent.0")
	}
	if ready {
		b.flag("chardev", "file", "id="+readyID, "path="+ReadyLog, "append=on")
		b.guestPort(readyID, cloudinit.ReadyPort)
	}
	return nil
}

// readyID is the chardev's behind ReadyLog.
const readyID = "ready"

// guestPort writes a port of the guest that leads to a chardev.
func (b *builder) guestPort(chardev, name string) {
	b.device(props{{"driver", "virtserialport"}, {"id", chardev}, {"bus", "channels.0"}, {"chardev", chardev}, {"name", name}})
}

// chardev writes a unix socket on which QEMU listens.
func (b *builder) chardev(id, path string, more ...string) {
	b.flag("chardev", append([]string{"socket", "id=" + id, "path=" + path, "server=on", "wait=off"}, more...)...)
}

// yes is a bool of the config whose default is true.
func yes(v *bool) bool { return v == nil || *v }

// display writes the display, and VNC on a socket.
func (b *builder) display() error {
	kind := b.in.Config.GetDisplay()
	if kind == "" {
		kind = "virtio"
		if b.board.microvm() {
			kind = "none"
		}
	}
	b.raw("display", "none")
	if kind == "none" {
		return nil
	}
	if b.board.microvm() {
		return invalid("display", "a machine %s has no display", b.board.kind).WithRemedy(`use "none"`)
	}
	model := map[string]string{"virtio": "virtio-vga", "std": "VGA"}[kind]
	if b.board.arch == "arm64" {
		model = map[string]string{"virtio": "virtio-gpu-pci", "std": "bochs-display"}[kind]
	}
	b.flag("vnc", "unix:"+VNCSocket)
	if err := b.integrated(props{{"driver", model}, {"id", "display"}}); err != nil {
		return err
	}
	// A tablet's pointer is where the viewer's is; a mouse's is not.
	if err := b.integrated(props{{"driver", "qemu-xhci"}, {"id", "usb"}}); err != nil {
		return err
	}
	b.device(props{{"driver", "usb-tablet"}, {"id", "tablet"}, {"bus", "usb.0"}})
	if b.board.arch == "arm64" {
		b.device(props{{"driver", "usb-kbd"}, {"id", "keyboard"}, {"bus", "usb.0"}})
	}
	return nil
}

// watch writes what tells of the guest's panic and of its watchdog. What follows either is
// the caller's, but a reset: the machine pauses for it.
func (b *builder) watch() error {
	panics, bites := "pause", "pause"
	if b.in.Config.GetOnPanic() == "none" {
		panics = "none"
	}
	watchdog := b.in.Config.GetWatchdog()
	if watchdog == "reset" || watchdog == "none" {
		bites = watchdog
	}
	b.flag("action", "reboot=reset", "shutdown=pause", "panic="+panics, "watchdog="+bites)
	if watchdog != "" {
		if b.board.microvm() {
			return invalid("watchdog", "a machine %s has no watchdog", b.board.kind)
		}
		if err := b.integrated(props{{"driver", "i6300esb"}, {"id", "watchdog"}}); err != nil {
			return err
		}
	}
	switch p := (props{{"driver", b.board.panic}, {"id", "panic"}}); b.board.panic {
	case "":
	case "pvpanic":
		b.device(p) // on the ISA bus
	default:
		return b.integrated(p)
	}
	return nil
}

// extras writes the random numbers, the balloon and the TPM.
func (b *builder) extras() error {
	if yes(b.in.Config.Rng) {
		b.object(props{{"qom-type", "rng-random"}, {"id", "random"}, {"filename", "/dev/urandom"}})
		if err := b.integrated(props{{"driver", b.board.virtio("rng")}, {"id", "rng"}, {"rng", "random"}}); err != nil {
			return err
		}
	}
	if b.in.Config.GetBalloon() {
		p := props{
			{"driver", b.board.virtio("balloon")}, {"id", "balloon"},
			{"free-page-reporting", true}, {"deflate-on-oom", true},
		}
		if err := b.integrated(p); err != nil {
			return err
		}
	}
	return b.tpm()
}

func (b *builder) tpm() error {
	if !b.in.Config.GetTpm() {
		return nil
	}
	if b.board.microvm() {
		return invalid("tpm", "a machine %s has no TPM", b.board.kind)
	}
	if !b.in.Host.TPM {
		return invalid("tpm", "the node has no swtpm").WithRemedy("install swtpm on it, or constrain the job to nodes that have it")
	}
	b.flag("chardev", "socket", "id=tpm", "path="+TPMSocket)
	b.flag("tpmdev", "emulator", "id=tpm", "chardev=tpm")
	model := "tpm-crb"
	if b.board.arch == "arm64" {
		model = "tpm-tis-device"
	}
	b.device(props{{"driver", model}, {"tpmdev", "tpm"}})
	return nil
}
