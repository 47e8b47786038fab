package health

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// grpcCheck passes when a grpc.health.v1 service says SERVING.
type grpcCheck struct {
	address, service string
	creds            credentials.TransportCredentials
}

func newGRPC(c *berthv1.Check, address string) Prober {
	g := &grpcCheck{address: address, service: c.GetGrpcService(), creds: insecure.NewCredentials()}
	if c.GetTls() {
		g.creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: c.GetTlsSkipVerify()}) //nolint:gosec // tls_skip_verify of the spec
	}
	return g
}

func (g *grpcCheck) Probe(ctx context.Context) Outcome {
	conn, err := grpc.NewClient("passthrough:///"+g.address,
		grpc.WithTransportCredentials(g.creds), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithUserAgent("berth-check"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody)))
	if err != nil {
		return Outcome{Output: err.Error()}
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: g.service})
	switch status.Code(err) {
	case codes.OK:
		return Outcome{OK: resp.GetStatus() == healthpb.HealthCheckResponse_SERVING, Output: resp.GetStatus().String()}
	case codes.DeadlineExceeded:
		return Outcome{Output: "no answer in time"}
	}
	return Outcome{Output: status.Code(err).String() + ": " + status.Convert(err).Message()}
}
