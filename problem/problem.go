// Package problem is the one kind of error that crosses Berth's walls: it says what
// was wrong (Kind), where (Field), why (Reason) and what to do about it (Remedy).
//
// Inside a package errors are wrapped with %w as usual; at an edge (API, CLI, plugin
// wire) From finds the Problem in the chain, or makes an internal one. Kinds map once
// to gRPC codes and HTTP statuses, here.
package problem

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is what sort of thing was wrong. The strings are part of the API.
type Kind string

// The kinds. Who gets one knows: Invalid, NotFound, Exists, Denied, Unsupported are
// the caller's to fix; Conflict: read again and decide anew; Exhausted: ask for less
// or later; Unavailable, Timeout: the same call may go through later; Internal: a
// defect of Berth.
const (
	Invalid     Kind = "invalid"
	NotFound    Kind = "not_found"
	Exists      Kind = "exists"
	Conflict    Kind = "conflict"
	Denied      Kind = "denied"
	Unavailable Kind = "unavailable"
	Timeout     Kind = "timeout"
	Exhausted   Kind = "exhausted"
	Unsupported Kind = "unsupported"
	Canceled    Kind = "canceled"
	Internal    Kind = "internal"
)

// Error is a problem. Causes, when there are any, are each a problem of their own and
// Reason sums them up.
type Error struct {
	Kind   Kind
	Field  string // path of a field, a name, or file:line:col
	Reason string // one sentence, without a full stop
	Remedy string // what to do about it; may be empty
	Causes []*Error

	wrapped error
}

// New makes a problem; format and args make its reason. A %w in it is kept in the chain.
func New(kind Kind, field, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Field: field, Reason: err.Error(), wrapped: errors.Unwrap(err)}
}

// WithRemedy says what to do about it and returns e.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// Error is the problem on one line: "field: reason (remedy)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Reason)
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	return b.String()
}

// Unwrap gives the error that was wrapped by %w, if any.
func (e *Error) Unwrap() error { return e.wrapped }

// KindOf gives the kind of the first problem in err's chain; Internal without one, and
// "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	return From(err).Kind
}

// Is says whether err's chain holds a problem of that kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// From gives err as a problem. Words that were wrapped around a problem become part of
// its reason; context errors and gRPC statuses are understood; the rest is Internal.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var p *Error
	if errors.As(err, &p) {
		if outer := err.Error(); outer != p.Error() && strings.HasSuffix(outer, p.Error()) {
			c := *p
			c.Reason = strings.TrimSuffix(outer, p.Error()) + p.Reason
			c.wrapped = err
			return &c
		}
		return p
	}
	return fromForeign(err)
}

// Join makes one problem of several: nil of none, the only one of one.
func Join(kind Kind, reason string, causes []*Error) error {
	switch len(causes) {
	case 0:
		return nil
	case 1:
		return causes[0]
	}
	return &Error{Kind: kind, Reason: reason, Causes: causes}
}
