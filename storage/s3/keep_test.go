package s3

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/beside"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keeptest.Run(t, func(t *testing.T) (one, other keep.Store, again func() keep.Store) {
				f := smallParts()
				f.page = 2
				s := openOn(t, f, opts)
				second := s
				if !opts.SingleWriter {
					second = openOn(t, f, opts)
				}
				return beside.New(s), beside.New(second), func() keep.Store { return beside.New(openOn(t, f, opts)) }
			})
		})
	}
}

// unsure is a bucket whose conditional puts are done, and fail now and then nevertheless.
type unsure struct {
	*fake

	puts int
}

func (u *unsure) put(ctx context.Context, what putRequest) (string, error) {
	etag, err := u.fake.put(ctx, what)
	if u.puts++; err == nil && u.puts%2 == 1 {
		return "", errTemporary
	}
	return etag, err
}

// TestStateWithoutAnswers: a write that was done and not answered is found out about.
func TestStateWithoutAnswers(t *testing.T) {
	t.Parallel()
	s := openOn(t, &unsure{fake: smallParts()}, Options{})
	version := ""
	for _, value := range []string{"1", "2", "3"} {
		now, err := s.SaveState(t.Context(), "a", []byte(value), version)
		if err != nil {
			t.Fatalf("save %s: %v", value, err)
		}
		got, is, err := s.LoadState(t.Context(), "a")
		if err != nil || string(got) != value || is != now {
			t.Fatalf("%q of version %q, %v; want %q of %q", got, is, err, value, now)
		}
		version = now
	}
	if err := s.DeleteState(t.Context(), "a", version); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.LoadState(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestMoveState(t *testing.T) {
	t.Parallel()
	keeptest.Move(t, func(t *testing.T) (one, other keep.Store) {
		return beside.New(openOn(t, smallParts(), Options{})), new(keep.Memory)
	})
}
