// Package cloudinit makes the CD-ROM image that cloud-init in a new machine reads: NoCloud
// (volume CIDATA) or ConfigDrive (volume config-2). It is a pure function: the same input
// gives the same bytes. The drivers of virtual and of bare machines share it.
package cloudinit

// ReadyPort is the name of the virtio-serial port to which the guest writes ReadyLine when
// cloud-init is through with all of its stages, on every boot, or FailedLine when a stage
// had errors. Nothing else is needed in the guest, not even a network.
const (
	ReadyPort  = "berth.ready"
	ReadyLine  = "ready"
	FailedLine = "failed"
)

// The data sources.
const (
	NoCloud     = "nocloud"
	ConfigDrive = "config-drive"
)

// Input is all that the image is made of.
type Input struct {
	// Datasource is NoCloud or ConfigDrive.
	Datasource string
	// InstanceID is new when the guest is to be set up anew; the allocation's id.
	InstanceID string
	Hostname   string
	// UserData is "#cloud-config", a script ("#!"), or anything else that cloud-init
	// reads; as it is, but for what is added below.
	UserData string
	// NetworkConfig is version 2; "": cloud-init's own default (DHCP).
	NetworkConfig string
	VendorData    string
	Users         []User
	// SSHKeys are of the image's default user.
	SSHKeys []string
	// Ready has the guest write to ReadyPort.
	Ready bool
}

// User is one that cloud-init makes.
type User struct {
	Name         string
	SSHKeys      []string
	Groups       []string
	Sudo         bool   // may become root without a password
	PasswordHash string // as in /etc/shadow; "": no password
	Shell        string
}
