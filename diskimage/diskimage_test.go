package diskimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
)

const mib = 1 << 20

// gpt is a disk with a partition of each given type, and a boot program by name in the first.
func gpt(code bool, program string, types ...string) []byte {
	d := make([]byte, 4*mib)
	if code {
		d[0] = 0xeb
	}
	d[510], d[511] = 0x55, 0xaa
	h := d[sector:]
	copy(h, gptMark)
	le.PutUint64(h[32:], uint64(len(d)/sector-1))
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	for i, kind := range types {
		e := d[2*sector+128*i:]
		copy(e, guid(kind))
		le.PutUint64(e[32:], 2048)
	}
	copy(d[mib+70000:], program)
	return d
}

const (
	esp        = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	biosBoot   = "21686148-6449-6E6F-744E-656564454649"
	linuxData  = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	linuxARM   = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
	msReserved = "E3C9E316-0B5C-4DB8-817D-F92DF00215AE"
)

func inspect(b []byte, want Format) (*Info, error) {
	return Inspect(bytes.NewReader(b), int64(len(b)), want)
}

func TestHints(t *testing.T) {
	mbr := make([]byte, mib)
	mbr[0], mbr[510], mbr[511], mbr[446+4] = 0xeb, 0x55, 0xaa, 0x83
	for name, tc := range map[string]struct {
		disk []byte
		want Hints
	}{
		"cloud image":    {gpt(true, "BOOTX64 EFI", esp, biosBoot, linuxData), Hints{Arch: "amd64", OS: "linux"}},
		"uefi only":      {gpt(false, "BOOTAA64EFI", esp, linuxData), Hints{Arch: "arm64", OS: "linux", Firmware: "uefi"}},
		"typed root":     {gpt(false, "", esp, linuxARM), Hints{Arch: "arm64", OS: "linux", Firmware: "uefi"}},
		"both programs":  {gpt(false, "BOOTX64 EFIBOOTAA64EFI", esp, linuxData), Hints{OS: "linux", Firmware: "uefi"}},
		"bios only":      {gpt(true, "", biosBoot, linuxData), Hints{OS: "linux", Firmware: "bios"}},
		"windows":        {gpt(false, "BOOTX64 EFI", esp, msReserved), Hints{Arch: "amd64", OS: "windows", Firmware: "uefi"}},
		"old partitions": {mbr, Hints{OS: "linux", Firmware: "bios"}},
		"nothing":        {make([]byte, mib), Hints{}},
	} {
		info, err := inspect(tc.disk, Raw)
		if err != nil || info.Hints != tc.want || info.VirtualSize != int64(len(tc.disk)) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

// qemuImg runs qemu-img, or skips the test without one.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (Debian: qemu-utils)")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// TestFormats takes what qemu-img writes, whole, and refuses it when it is cut off.
func TestFormats(t *testing.T) {
	dir := t.TempDir()
	disk := gpt(true, "BOOTX64 EFI", esp, biosBoot, linuxData)
	for i := mib / 2; i < len(disk); i += 4 {
		le.PutUint32(disk[i:], uint32(i*2654435761)) // so that little of it is zeros
	}
	copy(disk[mib+70000:], "BOOTX64 EFI")
	write(t, dir+"/raw", disk)
	for name, tc := range map[string]struct {
		args  []string
		is    Format
		blind bool // gives no hints
	}{
		"qcow2":       {[]string{"-O", "qcow2"}, QCOW2, false},
		"version 2":   {[]string{"-O", "qcow2", "-o", "compat=0.10"}, QCOW2, false},
		"compressed":  {[]string{"-O", "qcow2", "-c"}, QCOW2, false},
		"zstd":        {[]string{"-O", "qcow2", "-c", "-o", "compression_type=zstd"}, QCOW2, true},
		"small":       {[]string{"-O", "qcow2", "-o", "cluster_size=512"}, QCOW2, false},
		"large":       {[]string{"-O", "qcow2", "-o", "cluster_size=2M"}, QCOW2, false},
		"parts":       {[]string{"-O", "qcow2", "-o", "extended_l2=on"}, QCOW2, false},
		"vmdk":        {[]string{"-O", "vmdk"}, VMDK, true},
		"vmdk stream": {[]string{"-O", "vmdk", "-o", "subformat=streamOptimized"}, VMDK, true},
		"vdi":         {[]string{"-O", "vdi"}, VDI, true},
		"vdi static":  {[]string{"-O", "vdi", "-o", "static=on"}, VDI, true},
		"vhdx":        {[]string{"-O", "vhdx"}, VHDX, true},
		"raw":         {[]string{"-O", "raw"}, Raw, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			qemuImg(t, append(append([]string{"convert", "-f", "raw"}, tc.args...), dir+"/raw", path+".x")...)
			b, err := os.ReadFile(path + ".x")
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []Format{"auto", tc.is} {
				info, err := inspect(b, want)
				if err != nil || info.Format != tc.is || info.VirtualSize != int64(len(disk)) {
					t.Fatalf("%+v, %v", info, err)
				}
				if want := (Hints{Arch: "amd64", OS: "linux"}); !tc.blind && info.Hints != want {
					t.Errorf("hints %+v", info.Hints)
				}
			}
			if _, err := inspect(b, ISO); !problem.Is(err, problem.Invalid) {
				t.Errorf("taken as iso: %v", err)
			}
			if info, err := inspect(b[:len(b)/2], "auto"); !problem.Is(err, problem.Invalid) && tc.is != VMDK && tc.is != VHDX {
				t.Errorf("half of it is taken: %+v, %v", info, err)
			}
		})
	}
}

// TestLeadsElsewhere: images that have parts outside of themselves.
func TestLeadsElsewhere(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	qemuImg(t, "create", "-q", "-f", "qcow2", at("base"), "1M")
	for name, args := range map[string][]string{
		"backing":   {"-f", "qcow2", "-b", at("base"), "-F", "qcow2"},
		"data file": {"-f", "qcow2", "-o", "data_file=" + at("data")},
		"raw data":  {"-f", "qcow2", "-o", "data_file_raw=on,data_file=" + at("data2")},
		"flat":      {"-f", "vmdk", "-o", "subformat=monolithicFlat"},
		"split":     {"-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"},
		"parent":    {"-f", "vmdk", "-b", at("v0"), "-F", "vmdk"},
		"vpc":       {"-f", "vpc", "-o", "subformat=fixed"},
		"qed":       {"-f", "qed"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "parent" {
				qemuImg(t, "create", "-q", "-f", "vmdk", at("v0"), "1M")
			}
			path := at("x-" + strings.ReplaceAll(name, " ", "-"))
			args := append([]string{"create", "-q"}, args...)
			args = append(args, path)
			if name != "backing" && name != "parent" {
				args = append(args, "1M")
			}
			qemuImg(t, args...)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := inspect(b, "auto"); !problem.Is(err, problem.Invalid) {
				t.Errorf("%+v, %v", info, err)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	cut := gpt(true, "", linuxData)
	iso := make([]byte, 64<<10)
	copy(iso[isoDescriptor:], "\x01CD001")
	le.PutUint32(iso[isoDescriptor+80:], 33)
	le.PutUint16(iso[isoDescriptor+128:], 2048)
	for name, tc := range map[string]struct {
		b    []byte
		want Format
		says string
	}{
		"empty":        {nil, "auto", "empty"},
		"page":         {[]byte("<!DOCTYPE html><html>not found</html>"), "auto", "page for people"},
		"gzip":         {[]byte("\x1f\x8b\x08aaaa"), Raw, "gzip"},
		"text":         {[]byte(strings.Repeat("hello ", 1000)), "auto", "no image of a known format"},
		"cut raw":      {cut[:2*mib], Raw, "cut off"},
		"odd raw":      {make([]byte, 1000), Raw, "sectors"},
		"cut iso":      {iso, "auto", "cut off"},
		"qcow2 as raw": {append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 504)...), Raw, "qcow2, not raw"},
		"raw as qcow2": {gpt(true, "", linuxData), QCOW2, "is raw, not qcow2"},
		"tar":          {archive(t, member{"a", nil}), "auto", "without an .ovf"},
	} {
		if name == "raw as qcow2" {
			tc.says = "is not qcow2"
		}
		info, err := inspect(tc.b, tc.want)
		if !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %+v, %v, want %q", name, info, err, tc.says)
		}
	}
	if info, err := inspect([]byte("anything"), File); err != nil || info.VirtualSize != 8 {
		t.Errorf("%+v, %v", info, err)
	}
}

type member struct {
	name string
	b    []byte
}

func archive(t testing.TB, members ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.b)), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(m.b)
	}
	_ = w.Close()
	return b.Bytes()
}

const ovf = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="f1" ovf:href="disk.vmdk"/></References>
  <DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="4"/></DiskSection>
  <VirtualSystem ovf:id="vm">
    <OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest"><Description>Debian</Description></OperatingSystemSection>
    <VirtualHardwareSection><vmw:Config vmw:key="firmware" vmw:value="efi"/></VirtualHardwareSection>
  </VirtualSystem>
</Envelope>`

func TestOVA(t *testing.T) {
	disk := gpt(false, "", linuxData)
	manifest := func(b []byte) []byte { return fmt.Appendf(nil, "SHA256(disk.vmdk)= %x\n", sha256.Sum256(b)) }
	good := archive(t, member{"vm.ovf", []byte(ovf)}, member{"vm.mf", manifest(disk)}, member{"disk.vmdk", disk})
	info, err := inspect(good, "auto")
	if err != nil || info.Format != OVA || info.Disk.Info.Format != Raw || info.VirtualSize != int64(len(disk)) {
		t.Fatalf("%+v, %v", info, err)
	}
	if want := (Hints{Arch: "amd64", OS: "linux", Firmware: "uefi"}); info.Hints != want {
		t.Errorf("hints %+v", info.Hints)
	}
	if err := info.Disk.Verify(); err != nil {
		t.Error(err)
	}
	wrong, err := inspect(archive(t, member{"vm.ovf", []byte(ovf)}, member{"vm.mf", manifest(nil)}, member{"disk.vmdk", disk}), OVA)
	if err != nil || wrong.Disk.Verify() == nil {
		t.Errorf("a wrong manifest: %v", err)
	}
	two := strings.Replace(ovf, "</DiskSection>", `<Disk ovf:fileRef="f2"/></DiskSection>`, 1)
	for name, b := range map[string][]byte{
		"cut off":   good[:len(good)/2],
		"no disk":   archive(t, member{"vm.ovf", []byte(ovf)}),
		"two disks": archive(t, member{"vm.ovf", []byte(two)}, member{"disk.vmdk", disk}),
		"broken":    archive(t, member{"vm.ovf", []byte("<Envelope")}),
		"ova in it": archive(t, member{"vm.ovf", []byte(ovf)}, member{"disk.vmdk", good}),
		"leads up":  archive(t, member{"vm.ovf", []byte(strings.Replace(ovf, "disk.vmdk", "../../etc/passwd", 1))}, member{"disk.vmdk", disk}),
		"many":      archive(t, make([]member, maxMembers+1)...),
	} {
		if info, err := inspect(b, "auto"); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// smallQCOW2 is a header and tables, of nothing that was written.
func smallQCOW2() []byte {
	b := make([]byte, 2048)
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 9)
	be.PutUint64(b[24:], 32<<10)
	be.PutUint32(b[36:], 1)
	be.PutUint64(b[40:], 512)
	be.PutUint64(b[48:], 1024)
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], 104)
	return b
}

// TestOddHeaders changes one number of a header that is taken.
func TestOddHeaders(t *testing.T) {
	if _, err := inspect(smallQCOW2(), "auto"); err != nil {
		t.Fatal(err)
	}
	for at, says := range map[int]string{
		7: "version", 15: "backing file", 19: "backing file", 23: "clusters", 24: "does not fit its size", 35: "encrypted",
		38: "cut off", 46: "cut off", 54: "references", 59: "references", 60: "snapshots",
		72: "features", 79: "data are in another file", 98: "references", 102: "header is", 514: "cut off",
	} {
		b := smallQCOW2()
		b[at] = 0x3c
		if _, err := inspect(b, "auto"); !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("byte %d: %v, want %q", at, err, says)
		}
	}
}

// FuzzInspect: whatever an image holds, it is refused or has a size; nothing panics, and a
// qcow2 that is taken has nothing outside of itself.
func FuzzInspect(f *testing.F) {
	f.Add(gpt(true, "BOOTX64 EFI", esp)[:64<<10])
	f.Add(archive(f, member{"vm.ovf", []byte(ovf)}, member{"disk.vmdk", make([]byte, 512)}))
	header := smallQCOW2()
	f.Add(header)
	f.Add([]byte("KDMV"))
	vhdx := make([]byte, 300<<10)
	copy(vhdx, "vhdxfile")
	copy(vhdx[192<<10:], "regi")
	f.Add(vhdx)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := inspect(b, "auto")
		if err != nil {
			if !problem.Is(err, problem.Invalid) {
				t.Errorf("no problem of the image's: %v", err)
			}
			return
		}
		if info.VirtualSize <= 0 || info.Format == QCOW2 && !bytes.Equal(b[8:20], make([]byte, 12)) {
			t.Errorf("taken: %+v", info)
		}
	})
}
