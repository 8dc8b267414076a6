package apikey_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/oci"
)

// loads counts what is loaded.
type loads struct {
	keep.Store

	n atomic.Int64
}

func (l *loads) Load(ctx context.Context, key string) (value []byte, version string, err error) {
	l.n.Add(1)
	return l.Store.Load(ctx, key)
}

// TestMadeUpKeys: who makes up keys asks the state no more often than somebody who guesses
// passwords may, and no more than once a minute for the same one. Those that are known go on.
func TestMadeUpKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := &loads{Store: new(keep.Memory)}
		w := newWorld(t, apikey.Options{State: state})
		good, _ := w.create(alice(), apikey.Wanted{})
		limits := authn.NewLimits(authn.LimitOptions{Delay: -1, PerAddress: authn.Rate{Burst: 5, Every: time.Hour}})
		door := limits.Around(apikey.Bearer{Keys: w.keys})
		try := func(key string) error {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.Header.Set("Authorization", "Bearer "+key)
			_, _, err := door.Identify(r)
			return err
		}
		if err := try(good); err != nil {
			t.Fatal(err)
		}
		before := state.n.Load()
		one := apikey.Forge("ork_"+strings.Repeat("a", 24), good)
		for range 20 {
			if err := try(one); !errors.Is(err, authn.ErrRefused) {
				t.Fatal(err)
			}
			time.Sleep(2900 * time.Millisecond)
		}
		if n := state.n.Load() - before; n != 1 {
			t.Errorf("one that's made up was looked for %d times in a minute", n)
		}
		for i := range 20 {
			err := try(apikey.Forge("ork_"+strings.Repeat("b", 23)+string(rune('a'+i)), good))
			if want := map[bool]error{true: authn.ErrRefused, false: oci.TooManyRequests}[i < 4]; !errors.Is(err, want) {
				t.Errorf("number %d: %v, want %v", i, err, want)
			}
		}
		if n := state.n.Load() - before; n != 5 {
			t.Errorf("the state was asked %d times", n)
		}
		time.Sleep(time.Minute)
		if err := try(good); err != nil { // which isn't fresh any more
			t.Errorf("a good one: %v", err)
		}
	})
}
