package command

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
)

// connectionFlags say which cluster is meant. Each has an environment variable that it
// overrides.
type connectionFlags struct {
	address, namespace, token     string
	caCert, cert, key, serverName string
	stale, noColor                bool
}

// environment names the variable of each flag; the help and docs/cli.md show it.
var environment = map[string]string{
	"addr":            "BERTH_ADDR",
	"namespace":       "BERTH_NAMESPACE",
	"token":           "BERTH_TOKEN",
	"ca-cert":         "BERTH_CACERT",
	"client-cert":     "BERTH_CLIENT_CERT",
	"client-key":      "BERTH_CLIENT_KEY",
	"tls-server-name": "BERTH_TLS_SERVER_NAME",
	"no-color":        "NO_COLOR",
}

func (f *connectionFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "addr", "", "gRPC `address` of a server, host:port; several separated by commas are tried in turn (default "+client.DefaultAddress+")")
	flags.StringVar(&f.namespace, "namespace", "", "`namespace` that is meant (default \"default\"); \"*\" lists all")
	flags.StringVar(&f.token, "token", "", "`token` that says who asks")
	flags.StringVar(&f.caCert, "ca-cert", "", "`file` with the CA certificates that servers are checked against; turns TLS on")
	flags.StringVar(&f.cert, "client-cert", "", "`file` with the certificate to show to servers")
	flags.StringVar(&f.key, "client-key", "", "`file` with its key")
	flags.StringVar(&f.serverName, "tls-server-name", "", "`name` that the server's certificate must have, where it is not the host of -addr")
	flags.BoolVar(&f.stale, "stale", false, "let any server answer reads from what it knows, even without a leader")
	flags.BoolVar(&f.noColor, "no-color", false, "no colours")
}

// config puts flags and environment together.
func (f *connectionFlags) config(getenv func(string) string) (client.Config, error) {
	get := func(flag, name string) string {
		if flag != "" {
			return flag
		}
		return getenv(environment[name])
	}
	cfg := client.Config{
		Address:   get(f.address, "addr"),
		Namespace: get(f.namespace, "namespace"),
		Token:     get(f.token, "token"),
		Stale:     f.stale,
	}
	var err error
	cfg.TLS, err = loadTLS(get(f.caCert, "ca-cert"), get(f.cert, "client-cert"), get(f.key, "client-key"), get(f.serverName, "tls-server-name"))
	return cfg, err
}

// loadTLS is nil when nothing is given: a plain connection.
func loadTLS(caCert, cert, key, serverName string) (*tls.Config, error) {
	if caCert == "" && cert == "" && key == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	if caCert != "" {
		pem, err := os.ReadFile(caCert)
		if err != nil {
			return nil, problem.New(problem.Invalid, "-ca-cert", "reading the CA certificate: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problem.New(problem.Invalid, caCert, "there is no PEM certificate in this file")
		}
	}
	if (cert == "") != (key == "") {
		return nil, problem.New(problem.Invalid, "-client-cert, -client-key", "one of the two is missing").
			WithRemedy("give both, or neither")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, problem.New(problem.Invalid, cert, "loading the client certificate and its key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// namespaceMeant is the namespace of the flag or the environment; "" when neither says.
func (f *connectionFlags) namespaceMeant(getenv func(string) string) string {
	return or(f.namespace, getenv(environment["namespace"]))
}
