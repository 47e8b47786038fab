package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// consoleWithin is how long an answer on a console is waited for: emulated guests are slow.
const consoleWithin = 90 * time.Second

// cmdConsole talks on a console, at a terminal: words are waited for (a regular
// expression), or typed where they begin with >, and at the end it is left by Ctrl-]:
// console $ALLOC 'guest# ' '>uname -m' x86_64
func cmdConsole(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(program("berth"), "alloc", "console", args[0])
	cmd.Env = append(append(os.Environ(), environment(ts)...), "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	ts.Check(err)
	defer f.Close()
	timer := time.AfterFunc(time.Duration(len(args))*consoleWithin, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	s := &screen{}
	read := make(chan struct{})
	go func() { // ends with EIO when the program has ended
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			s.add(string(buf[:n]))
			if err != nil {
				return
			}
		}
	}()
	say := func(text string) {
		_, err := f.WriteString(text)
		ts.Check(err)
	}
	s.wait(ts, `Ctrl-\] leaves it`)
	for _, words := range args[1:] {
		if typed, ok := strings.CutPrefix(words, ">"); ok {
			say(typed + "\r")
			continue
		}
		s.wait(ts, words)
	}
	say("\x1d")
	s.wait(ts, `Left the console`)
	err = cmd.Wait()
	<-read
	fmt.Fprintf(ts.Stdout(), "%s\n", s.text)
	ts.Check(err)
}

// screen is what a terminal has shown.
type screen struct {
	mu   sync.Mutex
	text string
	seen int // up to where it was looked at
}

func (s *screen) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += text
}

// wait waits for words after those that were waited for before.
func (s *screen) wait(ts *testscript.TestScript, words string) {
	want := regexp.MustCompile(words)
	for deadline := time.Now().Add(consoleWithin); ; time.Sleep(look) {
		s.mu.Lock()
		at := want.FindStringIndex(s.text[s.seen:])
		if at != nil {
			s.seen += at[1]
			s.mu.Unlock()
			return
		}
		rest := s.text[s.seen:]
		s.mu.Unlock()
		if time.Now().After(deadline) {
			ts.Fatalf("the console has not shown %q; since the last words: %q", words, rest)
		}
	}
}
