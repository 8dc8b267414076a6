package token

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// verified is a token whose signature was right. To verify one takes fifty times as
// long as to find it here.
type verified struct {
	head     string
	claims   claims
	next     atomic.Int64 // when Standing is to be asked, in Unix nanoseconds
	standing atomic.Pointer[standing]
}

// standing is what came of asking.
type standing struct {
	who authz.Identity
	err error
}

// Identify implements authn.Method for the header "Authorization: Bearer" with a token
// of this registry. What isn't one of this registry isn't found.
//
// The Identity is shared: its Groups, Claims and Limit must not be changed.
func (s *Service) Identify(r *http.Request) (who authz.Identity, found bool, err error) {
	raw, ok := bearer(r)
	if !ok {
		return authz.Identity{}, false, nil
	}
	who, err = s.identify(r.Context(), raw, s.opts.Service(r))
	if errors.Is(err, errForeign) {
		return authz.Identity{}, false, nil
	}
	return who, true, err
}

// bearer returns the token in r's header Authorization.
func bearer(r *http.Request) (string, bool) {
	scheme, raw, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.Trim(raw, " "), ok && strings.EqualFold(scheme, "Bearer")
}

func (s *Service) identify(ctx context.Context, raw, service string) (authz.Identity, error) {
	v, err := s.find(ctx, raw, service)
	if err != nil {
		return authz.Identity{}, err
	}
	if time.Now().UnixNano() >= v.next.Load() {
		if err := s.recheck(ctx, raw, v); err != nil {
			return authz.Identity{}, err
		}
	}
	now := v.standing.Load()
	return now.who, now.err
}

// find returns the token, which is good, but for what has become of its user.
func (s *Service) find(ctx context.Context, raw, service string) (*verified, error) {
	if v, ok := s.verified.Get(raw); ok {
		set, err := s.ring.current(ctx)
		if err != nil {
			return nil, err
		}
		if set.byHead[v.head] != nil && v.claims.Audience == service && !v.claims.over(time.Now()) {
			return v, nil
		}
		s.verified.Remove(raw) // why not is for verify to say
	}
	c, err := s.verify(ctx, raw, access, service)
	if err != nil {
		return nil, err
	}
	head, _, _ := strings.Cut(raw, ".")
	v := &verified{head: head, claims: c}
	v.standing.Store(&standing{who: c.identity()})
	s.verified.Add(strings.Clone(raw), v)
	return v, nil
}

// samePassword returns ErrRefused if the user's password isn't the one any more with
// which the token was got. Only a directory that says so now ends a token: what it said
// before may be older than that.
func (s *Service) samePassword(ctx context.Context, c *claims) error {
	if c.Generation == "" {
		return nil
	}
	now, err := s.recentGeneration(ctx, c.Provider, c.Subject)
	if err == nil && now != c.Generation {
		now, err = s.generation(ctx, c.Provider, c.Subject)
	}
	if err == nil && now != c.Generation {
		err = refusedf("the password has been changed since")
	}
	return err
}

// recheckPause is for how long Standing isn't asked again that couldn't say.
const recheckPause = 30 * time.Second

// recheck asks whether the user is there still. Those that come meanwhile wait for the
// same answer, each until its ctx ends, which is the error then.
func (s *Service) recheck(ctx context.Context, raw string, v *verified) error {
	done := s.checks.DoChan(raw, func() (any, error) {
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		pause := s.check(whole, v)
		v.next.Store(time.Now().Add(pause).UnixNano())
		return nil, nil
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check asks, and returns in how long to ask again.
func (s *Service) check(ctx context.Context, v *verified) time.Duration {
	who := v.claims.identity()
	if who.IsAnonymous() {
		return s.opts.Recheck
	}
	now, err := s.opts.Standing(ctx, who)
	if err == nil {
		err = s.samePassword(ctx, &v.claims)
	}
	switch {
	case errors.Is(err, authn.ErrRefused):
		v.standing.Store(&standing{err: err})
	case err == nil:
		who.Groups = now.Groups
		if now.Claims != nil {
			who.Claims = now.Claims
		}
		v.standing.Store(&standing{who: who})
	case !errors.Is(err, errors.ErrUnsupported):
		return max(s.opts.Recheck, recheckPause)
	}
	return s.opts.Recheck
}
