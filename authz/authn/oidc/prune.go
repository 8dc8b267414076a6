package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// forgetAfter is how long an account is remembered that its provider hasn't confirmed:
// who comes back meanwhile has the same API keys.
const forgetAfter = 30 * 24 * time.Hour

// Prune forgets accounts that are gone from their provider, or that aren't followed any
// more, and that haven't been confirmed for 30 days. Others of that age it asks for. It's
// for a schedule, daily or so, and may be run by several replicas at once.
func (l *Login) Prune(ctx context.Context) error {
	if l.config.Store == nil {
		return nil
	}
	var errs []error
	for key, err := range l.config.Store.List(ctx, "accounts") {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := l.accounts.pruneOne(ctx, key); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

func (a *accounts) pruneOne(ctx context.Context, key string) error {
	value, version, err := a.store.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var known account
	if err := json.Unmarshal(value, &known); err != nil {
		return errors.New("it isn't what was saved")
	}
	if time.Since(known.Checked) < forgetAfter {
		return nil
	}
	if p := a.login.provider(known.Provider); p != nil && p.follows() && known.Token != "" {
		_, _ = a.lookup(ctx, p, known.User) // what comes of it is written down
		return nil
	}
	err = a.login.config.OnForget(ctx, authz.Identity{ID: known.User, Provider: known.Provider})
	if err == nil {
		err = a.store.Delete(ctx, key, version)
	}
	if errors.Is(err, keep.ErrChanged) || errors.Is(err, fs.ErrNotExist) { // signed in again, or another replica was faster
		return nil
	}
	return err
}
