package draw

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

// style is the picture's style sheet. Jobs' colours are apart from each other for most
// eyes on light and on dark; what is new has a strong outline, what goes is faint.
const style = `<style>
svg{background:#fff;color:#1f2933;font-family:ui-sans-serif,system-ui,sans-serif}
text{fill:currentColor}
.label,.entry{opacity:.75}
.node{fill:#f3f5f7;stroke:#9aa5b1;stroke-width:1}
.free{fill:#fff;stroke:#c3ccd5;stroke-width:.5}
.reserved{fill:#aab3bd}
.device{stroke-width:1.5}
.new{stroke:#111;stroke-width:1.5}
.old{opacity:.45;stroke:#d64545;stroke-width:1;stroke-dasharray:2 1}
.j0{fill:#4477aa}.j1{fill:#ee6677}.j2{fill:#228833}.j3{fill:#ccbb44}.j4{fill:#66ccee}.j5{fill:#aa3377}
.j6{fill:#e07b39}.j7{fill:#7d6fb2}.j8{fill:#44aa99}.j9{fill:#999933}.j10{fill:#882255}.j11{fill:#6b8cae}
.p0{fill:#9ecae1}.p1{fill:#4292c6}.p2{fill:#f16913}.p3{fill:#a63603}
@media (prefers-color-scheme:dark){
svg{background:#14181d;color:#e4e9ee}
.node{fill:#1d232a;stroke:#52606d}
.free{fill:#14181d;stroke:#3e4c59}
.reserved{fill:#4a545f}
.new{stroke:#fff}
}
</style>
`

const reading = "Small squares are cores; bars: shared CPU, memory, then hugepages by size; large squares: devices."

// render writes boxes that share class and title as one path, in the order in which they
// first come.
func render(f *Fleet, legend []entry, boxes []box, width, height int) []byte {
	const head, line = 24, 16
	columns := max(width/260, 1)
	foot := (len(legend)+columns-1)/columns*line + line + 8
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n",
		width, head+height+foot, width, head+height+foot)
	fmt.Fprintf(&b, "<title>%s</title>\n%s<text x=\"8\" y=\"17\" font-size=\"14\">%s</text>\n", escape(f.Title), style, escape(f.Title))
	fmt.Fprintf(&b, "<g transform=\"translate(0 %d)\">\n", head)
	text := sizeFor(len(f.Nodes)).text
	for i := 0; i < len(boxes); {
		end := i + 1
		for end < len(boxes) && !frames(&boxes[end]) {
			end++
		}
		renderNode(&b, boxes[i:end], text)
		i = end
	}
	b.WriteString("</g>\n")
	for i, e := range legend {
		x, y := 8+i%columns*260, head+height+i/columns*line+8
		if e.class != "" {
			fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"10\" height=\"10\"/>", e.class, x, y)
		}
		fmt.Fprintf(&b, "<text class=\"entry\" x=\"%d\" y=\"%d\" font-size=\"11\">%s</text>\n", x+16, y+9, escape(clip(e.text, 230, 11)))
	}
	fmt.Fprintf(&b, "<text class=\"entry\" x=\"8\" y=\"%d\" font-size=\"11\">%s</text>\n", head+height+foot-10, reading)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func frames(b *box) bool { return strings.HasPrefix(b.class, "node") }

// renderNode writes a node's frame and what is in it.
func renderNode(b *bytes.Buffer, boxes []box, text int) {
	frame := &boxes[0]
	fmt.Fprintf(b, "<g><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"2\"/>\n", frame.class, frame.x, frame.y, frame.w, frame.h)
	type key struct{ class, title string }
	paths := map[key]*strings.Builder{}
	var order []key
	for i := range boxes[1:] {
		x := &boxes[1+i]
		if x.text != "" {
			fmt.Fprintf(b, "<text class=\"%s\" x=\"%d\" y=\"%d\" font-size=\"%d\">%s%s</text>\n", x.class, x.x, x.y+text, text, titled(x.title), escape(clip(x.text, x.w, text)))
			continue
		}
		k := key{x.class, x.title}
		if paths[k] == nil {
			paths[k] = &strings.Builder{}
			order = append(order, k)
		}
		fmt.Fprintf(paths[k], "M%d %dh%dv%dh-%dz", x.x, x.y, x.w, x.h, x.w)
	}
	for _, k := range order {
		fmt.Fprintf(b, "<path class=\"%s\" d=\"%s\">%s</path>\n", k.class, paths[k], titled(k.title))
	}
	b.WriteString("</g>\n")
}

func titled(title string) string {
	if title == "" {
		return ""
	}
	return "<title>" + escape(title) + "</title>"
}

// clip cuts a text that would be wider than its box: a character takes about 0.6 of the
// font's size.
func clip(text string, width, size int) string {
	most := max(width*10/(size*6), 1)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
