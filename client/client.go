// Package client is the Go client of Berth's API. It owns the connection to the
// servers and what every caller would otherwise write again: addresses, TLS, the token,
// the default namespace, errors as problems, retries over a leader election, and the
// protocols of the streaming calls (logs, exec, files, snapshots, events).
//
//	c, err := client.New(client.Config{Address: "127.0.0.1:7461"})
//	defer c.Close()
//	job, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: "web"})
//
// The fields of Client are the generated services, so every call of the API is there;
// the helpers beside them are for what takes more than one message. Every error that a
// call returns holds a *problem.Error (see problem.From).
//
// A Client is safe for use by several goroutines. New does not connect; the first call
// does. The CLI (package command) is the first caller, other programs are welcome.
package client

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// DefaultAddress is where a server on this machine answers gRPC.
const DefaultAddress = "127.0.0.1:7461"

// DefaultRetryFor is how long reads are tried again while the servers have no leader:
// an election takes one to two seconds, two in a row are not rare.
const DefaultRetryFor = 5 * time.Second

// maxMessage bounds one message in either direction. A page of the API is far smaller.
const maxMessage = 64 << 20

// Config is what a Client needs to know. The zero value is a client of the server on
// this machine.
type Config struct {
	// Address is the gRPC address of a server: "host:port", or "host" for the default
	// port. Several, separated by commas, are tried in turn. Empty: DefaultAddress.
	Address string
	// TLS, when not nil, encrypts the connection.
	TLS *tls.Config
	// Namespace is filled into requests that have one and leave it empty.
	Namespace string
	// Token is sent with every call.
	Token string
	// Stale lets any server answer reads from what it knows, even without a leader.
	Stale bool
	// RetryFor bounds the retries of reads. 0: DefaultRetryFor; negative: none.
	RetryFor time.Duration
	// Observe, when not nil, is told how fresh each answer was. It is called from the
	// goroutine that made the call.
	Observe func(Freshness)
	// DialOptions are added to the connection's own; for tests.
	DialOptions []grpc.DialOption
}

// Client is a connection to the servers and the services that they offer on it.
type Client struct {
	Jobs         berthv1.JobServiceClient
	Allocs       berthv1.AllocServiceClient
	Nodes        berthv1.NodeServiceClient
	Evaluations  berthv1.EvaluationServiceClient
	Namespaces   berthv1.NamespaceServiceClient
	Variables    berthv1.VariableServiceClient
	Images       berthv1.ImageServiceClient
	Reservations berthv1.ReservationServiceClient
	Deployments  berthv1.DeploymentServiceClient
	Services     berthv1.ServiceServiceClient
	Operator     berthv1.OperatorServiceClient
	Schedulers   berthv1.SchedulerServiceClient
	Status       berthv1.StatusServiceClient

	conn      *grpc.ClientConn
	namespace string
	retryFor  time.Duration
}

// New makes a client. The only errors are wrong addresses: nothing is dialled yet.
func New(cfg Config) (*Client, error) {
	addresses, err := ParseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = DefaultRetryFor
	}
	calls := &caller{cfg: cfg, addresses: addresses}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithResolvers(newResolver(addresses)),
		grpc.WithChainUnaryInterceptor(calls.unary),
		grpc.WithChainStreamInterceptor(calls.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		// A follower of logs may hear nothing for hours; this is how it notices that the
		// server's machine is gone.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithUserAgent("berth"),
	}, cfg.DialOptions...)
	conn, err := grpc.NewClient(scheme+":///servers", options...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Jobs:         berthv1.NewJobServiceClient(conn),
		Allocs:       berthv1.NewAllocServiceClient(conn),
		Nodes:        berthv1.NewNodeServiceClient(conn),
		Evaluations:  berthv1.NewEvaluationServiceClient(conn),
		Namespaces:   berthv1.NewNamespaceServiceClient(conn),
		Variables:    berthv1.NewVariableServiceClient(conn),
		Images:       berthv1.NewImageServiceClient(conn),
		Reservations: berthv1.NewReservationServiceClient(conn),
		Deployments:  berthv1.NewDeploymentServiceClient(conn),
		Services:     berthv1.NewServiceServiceClient(conn),
		Operator:     berthv1.NewOperatorServiceClient(conn),
		Schedulers:   berthv1.NewSchedulerServiceClient(conn),
		Status:       berthv1.NewStatusServiceClient(conn),
		conn:         conn,
		namespace:    cfg.Namespace,
		retryFor:     cfg.RetryFor,
	}, nil
}

// Namespace is the namespace that the client fills in; "default" when none was given.
func (c *Client) Namespace() string {
	if c.namespace == "" {
		return "default"
	}
	return c.namespace
}

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.conn.Close() }
