package token

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Generational is a Directory that knows which of a user's passwords is the present
// one: what Generation returns changes with the password, is the same on all replicas
// and after a restart, and doesn't tell what the password is. It's empty if that isn't
// known. A token is for the password with which it was got. Where that isn't known, a
// refresh token outlives a change of the password, so it's good for UncheckedRefreshLife.
type Generational interface {
	Generation(ctx context.Context, user string) (string, error)
}

// A refresh token is signed and kept nowhere, so signing in writes nothing and no
// replica has to be told. What is kept is what was revoked, until it would be over anyway.

// revocations are what is kept of a user whose tokens were revoked.
type revocations struct {
	Before int64 `json:"before,omitempty"` // in Unix seconds: all tokens of then and earlier

	read time.Time
}

func (v *revocations) has(c *claims) bool { return v.Before != 0 && c.Issued <= v.Before }

func revocationKey(provider, user string) string {
	sum := sha256.Sum256([]byte(provider + "\x00" + user))
	return "token/revoked/" + hex.EncodeToString(sum[:16])
}

// Refreshes reports whether users of a provider can have refresh tokens, where there are
// any: those whose Directory is Generational. What others sign in with may end by itself,
// such as a session, and a refresh token would outlive that.
func (s *Service) Refreshes(provider string) bool {
	_, ok := s.opts.Directory(provider).(Generational)
	return ok
}

// refreshable reports whether who may have a refresh token: somebody with an account
// that can be asked about, who signed in with all of its rights.
func (s *Service) refreshable(who authz.Identity) bool {
	return s.opts.RefreshLife > 0 && !who.IsAnonymous() && who.Limit == nil && who.Claims[APIKey] == nil && s.Refreshes(who.Provider)
}

// newRefresh returns a refresh token for who, whose password is of a generation; none if
// who can't have one.
func (s *Service) newRefresh(set *keySet, who authz.Identity, generation, service string, now time.Time) (string, error) {
	if !s.refreshable(who) {
		return "", nil
	}
	life := s.opts.RefreshLife
	if generation == "" {
		life = min(life, s.opts.UncheckedRefreshLife)
	}
	c := newClaims(who, service, now, life)
	c.Generation = generation
	return set.sign(refresh, c, now)
}

// generation returns which of the user's passwords is the one of now; empty if nobody
// knows.
func (s *Service) generation(ctx context.Context, provider, user string) (string, error) {
	return s.generations.now(ctx, of(provider, user), s.askGeneration(provider, user))
}

// recentGeneration is generation as of half of Recheck ago or later.
func (s *Service) recentGeneration(ctx context.Context, provider, user string) (string, error) {
	return s.generations.get(ctx, of(provider, user), s.askGeneration(provider, user))
}

func (s *Service) askGeneration(provider, user string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if g, ok := s.opts.Directory(provider).(Generational); ok {
			return g.Generation(ctx, user)
		}
		return "", nil
	}
}

// refreshed returns who has the refresh token, with the groups of now.
func (s *Service) refreshed(ctx context.Context, raw, service string) (authz.Identity, error) {
	c, err := s.verify(ctx, raw, refresh, service)
	if errors.Is(err, errForeign) {
		err = refusedf("it's none of this registry's")
	}
	if err != nil {
		return authz.Identity{}, err
	}
	if !s.Refreshes(c.Provider) || s.opts.RefreshLife <= 0 {
		return authz.Identity{}, refusedf("it can't be refreshed any more")
	}
	if time.Since(time.Unix(c.Issued, 0)) >= s.opts.RefreshLife {
		return authz.Identity{}, refusedf("it's older than refresh tokens become")
	}
	revoked, err := s.revocations(ctx, revocationKey(c.Provider, c.Subject))
	if err != nil {
		return authz.Identity{}, err
	}
	if revoked.has(&c) {
		return authz.Identity{}, refusedf("it was revoked")
	}
	generation, err := s.generation(ctx, c.Provider, c.Subject)
	if err != nil {
		return authz.Identity{}, err
	}
	if generation != c.Generation {
		return authz.Identity{}, refusedf("the password has been changed since")
	}
	who, err := s.opts.Directory(c.Provider).Lookup(ctx, c.Subject)
	if err == nil && who.ID != c.Subject {
		return authz.Identity{}, refusedf("its user has another name")
	}
	return who, err
}

// revocations returns what was revoked of a user's, as of Recheck ago or later.
func (s *Service) revocations(ctx context.Context, key string) (*revocations, error) {
	if v, ok := s.revoked.Get(key); ok && time.Since(v.read) < s.opts.Recheck {
		return v, nil
	}
	v, _, err := s.loadRevocations(ctx, key)
	if err == nil {
		s.revoked.Add(key, v)
	}
	return v, err
}

func (s *Service) loadRevocations(ctx context.Context, key string) (v *revocations, version string, err error) {
	v = &revocations{read: time.Now()}
	data, version, err := s.opts.State.Load(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, "", nil
	case err != nil:
		return nil, "", err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, "", fmt.Errorf("%s: %w", key, err)
	}
	return v, version, nil
}

// RevokeRefresh ends all refresh tokens that a user has got until now, and those of the
// next minute, since the clocks of replicas may differ by that. No other replica takes
// one for longer than Recheck. Access tokens that were got with them last as long as
// they last.
func (s *Service) RevokeRefresh(ctx context.Context, provider, user string) error {
	key := revocationKey(provider, user)
	for {
		v, version, err := s.loadRevocations(ctx, key)
		if err != nil {
			return err
		}
		v.Before = time.Now().Add(skew).Unix() // a replica's clock may be ahead
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = s.opts.State.Save(ctx, key, data, version)
		if err == nil {
			s.revoked.Remove(key)
		}
		if !errors.Is(err, keep.ErrChanged) {
			return err
		}
	}
}

// Prune removes what is kept of revocations that are over. It's for a schedule, daily
// or so, and may be run by several replicas at once.
func (s *Service) Prune(ctx context.Context) error {
	var errs []error
	for key, err := range s.opts.State.List(ctx, "token/revoked") {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, s.pruneOne(ctx, key))
	}
	return errors.Join(errs...)
}

func (s *Service) pruneOne(ctx context.Context, key string) error {
	v, version, err := s.loadRevocations(ctx, key)
	if err != nil || version == "" {
		return err
	}
	over := time.Unix(v.Before, 0).Add(MaxRefreshLife) // they may have been good for longer than now
	if !time.Now().After(over) {
		return nil
	}
	err = s.opts.State.Delete(ctx, key, version)
	if errors.Is(err, keep.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
