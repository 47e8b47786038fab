package api

import (
	"context"
	"encoding/base64"
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
)

// Items in a page.
const (
	defaultPage = 1000
	maxPage     = 10000
)

// maxPageBytes ends a page early, so that it fits into what gRPC clients accept by
// default (4 MiB).
const maxPageBytes = 3 << 20

// checkEvery is how many items a list looks at between two looks at its context.
const checkEvery = 1024

// lister is a request for a page of a list.
type lister interface {
	GetPrefix() string
	GetFilter() string
	GetPageSize() uint32
	GetPageToken() string
}

// pager makes a page of items of one kind.
type pager[T proto.Message] struct {
	size   int
	from   string // key of the page's first item; "" at the start
	prefix string
	filter *filter
}

// newPager checks what a list request asks for. item is an empty item of the list.
func newPager[T proto.Message](q lister, item T) (*pager[T], error) {
	from, err := decodeToken(q.GetPageToken())
	if err != nil {
		return nil, err
	}
	if q.GetPageSize() > maxPage {
		return nil, problem.New(problem.Invalid, "page_size", "%d items in a page are too many", q.GetPageSize()).
			WithRemedy("ask for at most %d", maxPage)
	}
	p := &pager[T]{size: int(q.GetPageSize()), from: from, prefix: q.GetPrefix()}
	if p.size == 0 {
		p.size = defaultPage
	}
	p.filter, err = newFilter(q.GetFilter(), item.ProtoReflect().Descriptor())
	return p, err
}

// start is where to begin in items that are ordered by the key that the prefix is of.
func (p *pager[T]) start() string { return max(p.from, p.prefix) }

// page takes items, which come in the order of their keys, until the page is full. The
// token of the next page is the key of the item that it begins with, so that what comes
// and goes in between neither doubles nor hides anything else.
func (p *pager[T]) page(ctx context.Context, items iter.Seq[T], key func(T) string) ([]T, string, error) {
	var page []T
	looked, bytes := 0, 0
	for item := range items {
		if looked++; looked%checkEvery == 0 && ctx.Err() != nil {
			return nil, "", problem.From(context.Cause(ctx))
		}
		keep, err := p.filter.keeps(item)
		switch {
		case err != nil:
			return nil, "", err
		case !keep:
		case len(page) == p.size || bytes > maxPageBytes:
			return page, encodeToken(key(item)), nil
		default:
			page = append(page, item)
			bytes += proto.Size(item)
		}
	}
	return page, "", nil
}

// within gives the items whose name has the prefix; sorted says that they come in the
// order of their names, from the prefix on.
func within[T any](items iter.Seq[T], prefix string, name func(T) string, sorted bool) iter.Seq[T] {
	if prefix == "" {
		return items
	}
	return func(yield func(T) bool) {
		for item := range items {
			has := strings.HasPrefix(name(item), prefix)
			if has && !yield(item) || !has && sorted {
				return
			}
		}
	}
}

// only gives the items for which keep is true.
func only[T any](items iter.Seq[T], keep func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		for item := range items {
			if keep(item) && !yield(item) {
				return
			}
		}
	}
}

func encodeToken(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func decodeToken(token string) (string, error) {
	key, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", problem.New(problem.Invalid, "page_token", "this is not a page token").
			WithRemedy("give next_page_token of the page before as it is")
	}
	return string(key), nil
}

// anyNamespace is the namespace that stands for all of them in lists.
const anyNamespace = "*"

// namespaceOf is the namespace that a request means.
func namespaceOf(q interface{ GetNamespace() string }) string {
	if ns := q.GetNamespace(); ns != "" {
		return ns
	}
	return defaultNamespace
}
