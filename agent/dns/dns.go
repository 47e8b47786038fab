// Package dns answers questions for names in "berth.": services, nodes and addresses, from
// what the agent knows of the cluster (package discovery). It is authoritative for that
// zone and knows nothing else: who asks for other names is refused, and asks elsewhere.
//
// It promises answers of ready instances only, in random order, that fit the asker's
// packet or say that they were cut (TCP has them whole), and that last known answers go
// on while no server is there. The agent runs it; tasks and the host's resolver ask it.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// patience is how long a question waits for the servers' word on a new name.
	patience = 2 * time.Second
	// tryAgain is the wait before an address that is in use is tried again.
	tryAgain = 5 * time.Second
	// packet is the largest answer by UDP that is sent whole: what passes every network
	// (DNS flag day 2020).
	packet = 1232
	// ending is how long questions that are being answered may take when Run ends.
	ending = time.Second
)

// Catalog is where answers come from.
type Catalog interface {
	Lookup(ctx context.Context, topic *berthv1.Topic) (*berthv1.Known, error)
}

// Config is what a Server is made of.
type Config struct {
	// Address to listen on, UDP and TCP: "127.0.0.1:7453".
	Address string
	// TTL is how long askers may keep an answer. Whole seconds; 0: not at all.
	TTL time.Duration
	// Region of the node: names may have it before the zone. Empty: none.
	Region  string
	Catalog Catalog
	Log     *slog.Logger
	// Listening is told the address when it is listened on, and "" when it is no more.
	Listening func(address string)
}

// Server answers.
type Server struct {
	cfg Config
}

// New makes a server; it listens on nothing yet.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Run answers until ctx ends. An address that cannot be listened on is tried again and
// again: an agent is of use without DNS.
func (s *Server) Run(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		if words := err.Error(); words != said {
			s.cfg.Log.Warn("DNS is not answered here; that is tried again", "address", s.cfg.Address, "error", err)
			said = words
		}
		timer := time.NewTimer(tryAgain)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// serve listens on both protocols until either fails or ctx ends.
func (s *Server) serve(ctx context.Context) error {
	udp, err := net.ListenPacket("udp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer tcp.Close()
	s.cfg.Listening(tcp.Addr().String())
	defer s.cfg.Listening("")
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.handle(ctx, w, q) })
	servers := []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}}
	ended := make(chan error, len(servers))
	for _, one := range servers {
		go func() { ended <- one.ActivateAndServe() }()
	}
	s.cfg.Log.Info("DNS is answered", "address", tcp.Addr().String(), "zone", zone)
	left := len(servers)
	select {
	case <-ctx.Done():
	case err = <-ended:
		left--
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), ending)
	defer cancel()
	for _, one := range servers {
		_ = one.ShutdownContext(limited) // one of them may have ended by itself
	}
	udp.Close()
	tcp.Close()
	for range left {
		<-ended
	}
	if err == nil {
		err = errors.New("it ended")
	}
	return err
}

// handle answers one question.
func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit := dns.MaxMsgSize
	if w.LocalAddr().Network() == "udp" {
		limit = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			limit = max(limit, min(int(opt.UDPSize()), packet))
		}
	}
	m := s.reply(ctx, q)
	m.Truncate(limit)
	if err := w.WriteMsg(m); err != nil {
		s.cfg.Log.Debug("a DNS answer could not be sent", "to", w.RemoteAddr(), "error", err)
	}
}

// reply makes the whole message.
func (s *Server) reply(ctx context.Context, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	if q.IsEdns0() != nil {
		m.SetEdns0(packet, false)
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return m
	case len(q.Question) != 1:
		m.Rcode = dns.RcodeFormatError
		return m
	case q.Question[0].Qclass != dns.ClassINET && q.Question[0].Qclass != dns.ClassANY:
		m.Rcode = dns.RcodeRefused
		return m
	}
	a := s.answer(ctx, q.Question[0])
	m.Rcode, m.Answer = a.rcode, a.answer
	m.Extra = append(a.extra, m.Extra...)
	m.Authoritative = a.rcode == dns.RcodeSuccess || a.rcode == dns.RcodeNameError
	if m.Authoritative && len(m.Answer) == 0 {
		m.Ns = []dns.RR{s.soa()}
	}
	return m
}
