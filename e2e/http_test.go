package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHTTP makes a request and checks the status (200 unless it says otherwise):
// http [-status 404] [-on s1] GET /v1/jobs [BODYFILE|@TEXT]. The answer's status and headers
// come first, then an empty line and the body.
func cmdHTTP(ts *testscript.TestScript, _ bool, args []string) {
	answer, err := request(ts, args)
	_, _ = io.WriteString(ts.Stdout(), answer)
	if err != nil {
		ts.Fatalf("%v\n%s", err, answer)
	}
}

func request(ts *testscript.TestScript, args []string) (string, error) {
	want, on, bodyOnly := http.StatusOK, clusterOf(ts).servers[0], false
	for {
		switch args[0] {
		case "-status":
			want, _ = strconv.Atoi(args[1])
			args = args[2:]
			continue
		case "-on":
			on, args = args[1], args[2:]
			continue
		case "-body":
			bodyOnly, args = true, args[1:]
			continue
		}
		break
	}
	var body io.Reader
	if len(args) > 2 {
		text, inline := strings.CutPrefix(args[2], "@")
		if !inline {
			text = ts.ReadFile(args[2])
		}
		body = strings.NewReader(text)
	}
	req, err := http.NewRequest(args[0], "http://"+ts.Getenv(on+"_http")+args[1], body)
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 60 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer strings.Builder
	if !bodyOnly {
		fmt.Fprintf(&answer, "HTTP %d\n", resp.StatusCode)
		_ = resp.Header.Write(&answer)
		answer.WriteString("\n")
	}
	answer.Write(data)
	if resp.StatusCode != want {
		return answer.String(), fmt.Errorf("%v: HTTP %d, want %d", args, resp.StatusCode, want)
	}
	return answer.String(), nil
}

// cmdJSON checks that files, or stdout, are JSON; with -lines every line is: json stdout
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	lines := len(args) > 0 && args[0] == "-lines"
	if lines {
		args = args[1:]
	}
	for _, name := range args {
		texts := []string{ts.ReadFile(name)}
		if lines {
			texts = strings.Split(strings.TrimSpace(texts[0]), "\n")
		}
		for _, text := range texts {
			if json.Valid([]byte(text)) == neg {
				ts.Fatalf("%s: valid JSON: %v\n%s", name, !neg, text)
			}
		}
	}
}
