package command

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/berthd/berth/problem"
)

// confirm asks before something is lost for good. Without somebody to ask it refuses.
func (a *app) confirm(yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	question := fmt.Sprintf(format, args...)
	if !a.term.in || !a.term.err {
		return problem.New(problem.Invalid, "", "this loses something for good, and nobody is there to ask: %s", question).
			WithRemedy("add -yes if you mean it")
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(a.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return problem.New(problem.Canceled, "", "nothing was done")
}
