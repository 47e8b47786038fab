package problem

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// mapping is the one table between kinds, gRPC codes and HTTP statuses.
var mapping = []struct {
	kind Kind
	code codes.Code
	http int
}{
	{Invalid, codes.InvalidArgument, http.StatusBadRequest},
	{NotFound, codes.NotFound, http.StatusNotFound},
	{Exists, codes.AlreadyExists, http.StatusConflict},
	{Conflict, codes.Aborted, http.StatusConflict},
	{Denied, codes.PermissionDenied, http.StatusForbidden},
	{Unavailable, codes.Unavailable, http.StatusServiceUnavailable},
	{Timeout, codes.DeadlineExceeded, http.StatusGatewayTimeout},
	{Exhausted, codes.ResourceExhausted, http.StatusTooManyRequests},
	{Unsupported, codes.Unimplemented, http.StatusNotImplemented},
	{Canceled, codes.Canceled, 499},
	{Internal, codes.Internal, http.StatusInternalServerError},
}

// Code is the gRPC code of a kind.
func (k Kind) Code() codes.Code {
	for _, m := range mapping {
		if m.kind == k {
			return m.code
		}
	}
	return codes.Internal
}

// HTTP is the HTTP status of a kind.
func (k Kind) HTTP() int {
	for _, m := range mapping {
		if m.kind == k {
			return m.http
		}
	}
	return http.StatusInternalServerError
}

// GRPCStatus lets grpc send the problem whole; it is found again by From.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.Kind.Code(), e.Error())
	if d, err := s.WithDetails(e.Proto()); err == nil {
		return d
	}
	return s
}

// Proto is the problem on the wire.
func (e *Error) Proto() *berthv1.Problem {
	if e == nil {
		return nil
	}
	p := &berthv1.Problem{Kind: string(e.Kind), Field: e.Field, Reason: e.Reason, Remedy: e.Remedy}
	for _, c := range e.Causes {
		p.Causes = append(p.Causes, c.Proto())
	}
	return p
}

// FromProto is the problem that came over the wire; nil for nil.
func FromProto(p *berthv1.Problem) *Error {
	if p == nil {
		return nil
	}
	e := &Error{Kind: Kind(p.GetKind()), Field: p.GetField(), Reason: p.GetReason(), Remedy: p.GetRemedy()}
	for _, c := range p.GetCauses() {
		e.Causes = append(e.Causes, FromProto(c))
	}
	return e
}

// Wire is err as an error for grpc to return: nil stays nil.
func Wire(err error) error {
	if err == nil {
		return nil
	}
	return From(err).GRPCStatus().Err()
}

// fromForeign makes a problem of an error that holds none.
func fromForeign(err error) *Error {
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Kind: Canceled, Reason: err.Error(), wrapped: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: Timeout, Reason: err.Error(), wrapped: err}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Kind: NotFound, Reason: err.Error(), wrapped: err}
	}
	s, ok := status.FromError(err)
	if !ok {
		return &Error{Kind: Internal, Reason: err.Error(), wrapped: err}
	}
	for _, d := range s.Details() {
		if p, ok := d.(*berthv1.Problem); ok {
			e := FromProto(p)
			e.wrapped = err
			return e
		}
	}
	kind := Internal
	for _, m := range mapping {
		if m.code == s.Code() {
			kind = m.kind
			break
		}
	}
	return &Error{Kind: kind, Reason: s.Message(), wrapped: err}
}
