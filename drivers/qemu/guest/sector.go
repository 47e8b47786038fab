package guest

import (
	"fmt"
	"os"
)

// Sector writes a raw disk image of 1 MiB whose first sector is all there is: a BIOS
// starts it, it writes words to the serial port and, with off, powers a q35 machine off.
// It takes no time and needs nothing, where only the way of booting is looked at.
func Sector(path, words string, off bool) error {
	end := []byte{0xf4, 0xeb, 0xfd} // again: hlt; jmp again
	if off {
		end = append([]byte{
			0xba, 0x04, 0x06, // mov dx, 0x604 (q35's PM1a control)
			0xb8, 0x00, 0x20, // mov ax, 0x2000 (sleep, S5)
			0xef, // out dx, ax
		}, end...)
	}
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0, 0, // mov si, words
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
	}
	code = append(code, end...)
	at := 0x7c00 + len(code)
	code[5], code[6] = byte(at), byte(at>>8)
	code = append(append(code, words...), "\r\n\x00"...)
	const room = sector - 2 - 64 // the partition table stays empty
	if len(code) > room {
		return fmt.Errorf("the words are %d bytes too long for a sector", len(code)-room)
	}
	image := make([]byte, 1<<20)
	copy(image, code)
	copy(image[sector-2:], "\x55\xaa")
	return os.WriteFile(path, image, 0o644)
}
