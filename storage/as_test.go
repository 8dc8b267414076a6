package storage_test

import (
	"io"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
)

type able interface{ ability() string }

type inner string

func (i inner) ability() string { return string(i) }

type wrapper struct{ under any }

func (w wrapper) Unwrap() any { return w.under }

type ableWrapper struct{ wrapper }

func (ableWrapper) ability() string { return "the wrapper's" }

func TestAsFindsTheFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   any
		want string
	}{
		{inner("own"), "own"},
		{wrapper{inner("one below")}, "one below"},
		{wrapper{wrapper{inner("two below")}}, "two below"},
		{ableWrapper{wrapper{inner("hidden")}}, "the wrapper's"},
	} {
		if got, ok := storage.As[able](c.in); !ok || got.ability() != c.want {
			t.Errorf("%v: found %v, %t; want %q", c.in, got, ok, c.want)
		}
	}
	for _, in := range []any{nil, 5, wrapper{}, wrapper{wrapper{5}}} {
		if got, ok := storage.As[able](in); ok {
			t.Errorf("%v: found %v", in, got)
		}
	}
	if _, ok := storage.As[io.Reader](wrapper{inner("x")}); ok {
		t.Error("found a Reader that nobody is")
	}
}
