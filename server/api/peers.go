package api

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// tellContact says in the answer's headers how well this server knows its leader.
func (a *API) tellContact(ctx context.Context) {
	address, _ := a.leadership.Leader()
	setHeader(ctx, HeaderKnownLeader, strconv.FormatBool(address != "" || a.leadership.IsLeader()))
	setHeader(ctx, HeaderLastContact, strconv.FormatInt(a.leadership.LastContact().Milliseconds(), 10))
}

type sender interface{ SendMsg(m any) error }
type receiver interface{ RecvMsg(m any) error }

// pump copies messages until either side ends; io.EOF says that the source has.
func pump(to sender, from receiver, message func() protoreflect.Message) error {
	for {
		m := message().Interface()
		if err := from.RecvMsg(m); err != nil {
			return err
		}
		if err := to.SendMsg(m); err != nil {
			if errors.Is(err, io.EOF) { // the other side is over; its Recv says why
				return io.EOF
			}
			return err
		}
	}
}
