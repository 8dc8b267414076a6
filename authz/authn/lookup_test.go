package authn_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

// What's made up counts for the address, whatever the name beside it, and no name pays.
func TestLookUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		rate := authn.Rate{Burst: 3, Every: time.Hour}
		l, asked := authn.NewLimits(authn.LimitOptions{PerAddress: rate, PerUser: authn.Rate{Burst: 1, Every: time.Hour}}), 0
		lookUp := func(from string, verdict error) (time.Duration, error) {
			began := time.Now()
			err := l.Try(t.Context(), netip.MustParseAddr(from), func(ctx context.Context) error {
				return authn.LookUp(ctx, func() error { asked++; return verdict })
			})
			return time.Since(began), err
		}
		for range 5 {
			for _, verdict := range []error{nil, errAway} {
				if took, err := lookUp("192.0.2.1", verdict); took != 0 || !errors.Is(err, verdict) {
					t.Errorf("%v after %s, want %v", err, took, verdict)
				}
			}
		}
		for range 3 {
			if took, err := lookUp("192.0.2.1", authn.ErrRefused); took != time.Second || !errors.Is(err, authn.ErrRefused) {
				t.Errorf("one that's made up: %v after %s", err, took)
			}
		}
		if took, err := lookUp("192.0.2.1", nil); took != 0 || retryAfter(err) == 0 || asked != 13 {
			t.Errorf("too many: %v after %s, %d asked", err, took, asked)
		}
		if _, err := lookUp("192.0.2.2", nil); err != nil {
			t.Errorf("elsewhere: %v", err)
		}
		if err := authn.LookUp(t.Context(), func() error { return errAway }); !errors.Is(err, errAway) {
			t.Errorf("without limits: %v", err)
		}
	})
}

// A bearer is within the limits as well, though nothing of it counts that isn't looked up.
func TestBearersAreLookedUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := authn.NewLimits(authn.LimitOptions{PerAddress: authn.Rate{Burst: 1, Every: time.Hour}})
		around := l.Around(madeUp{})
		for i, want := range []error{authn.ErrRefused, oci.TooManyRequests} {
			if _, _, err := around.Identify(request(t, "Bearer ork_x")); !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
		}
	})
}

// madeUp is a Method whose credentials have to be looked up, and never are there.
type madeUp struct{}

func (madeUp) Identify(r *http.Request) (authz.Identity, bool, error) {
	return authz.Identity{}, true, authn.LookUp(r.Context(), func() error { return authn.ErrRefused })
}
