package machine

import (
	"bytes"
	"encoding/json"
	"strings"
)

// props are the properties of an object of QEMU's, in the order in which they are written.
// A value is a string, a bool, an integer, or a list or props of these.
type props []prop

type prop struct {
	key   string
	value any
}

// with adds a property.
func (p props) with(key string, value any) props { return append(p, prop{key, value}) }

// when adds a property if yes.
func (p props) when(yes bool, key string, value any) props {
	if !yes {
		return p
	}
	return p.with(key, value)
}

// MarshalJSON keeps the order, unlike a map.
func (p props) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, at := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{at.key, at.value} {
			text, err := marshal(part)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				b.WriteByte(':')
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal writes "<" and "&" as they are: people read the arguments.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// builder collects the arguments.
type builder struct {
	in     *Input
	choice Choice
	out    Machine
	board  board
	bus    bus
	// boot is the place of each device in the order of boot, by its id.
	boot map[string]int
	// err is the first of marshalling; there is none with what props may hold.
	err error
}

// flag adds "-name value"; value is the words joined by commas, of which each is "key" or
// "key=value". A comma inside of one is doubled, as QEMU wants it.
func (b *builder) flag(name string, words ...string) {
	b.out.Args = append(b.out.Args, "-"+name)
	if len(words) == 0 {
		return
	}
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, ",", ",,")
	}
	b.out.Args = append(b.out.Args, strings.Join(words, ","))
}

// raw adds "-name value" as it is: for options of which QEMU takes the value as a whole.
func (b *builder) raw(name, value string) { b.out.Args = append(b.out.Args, "-"+name, value) }

func (b *builder) json(name string, p props) {
	text, err := json.Marshal(p)
	if b.err == nil {
		b.err = err
	}
	b.raw(name, string(text))
}

func (b *builder) object(p props)   { b.json("object", p) }
func (b *builder) blockdev(p props) { b.json("blockdev", p) }
func (b *builder) netdev(p props)   { b.json("netdev", p) }
func (b *builder) device(p props)   { b.json("device", p) }
