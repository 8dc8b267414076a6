package ociregistry

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/internal/option"
)

// Tokens says how long tokens are good that the registry gives.
type Tokens struct {
	// Life is how long a token is good, from 1m to 24h. Default: 5m.
	Life caddy.Duration `json:"life,omitempty"`

	// RefreshLife is how long a refresh token is good, from 1h to 365d; -1: there are
	// none. Default: 30d.
	RefreshLife caddy.Duration `json:"refresh_life,omitempty"`
}

const (
	minTokenLife   = time.Minute // old clients count on that
	maxTokenLife   = 24 * time.Hour
	minRefreshLife = time.Hour

	noRefresh caddy.Duration = -1
)

// tokens parses
//
//	tokens {
//		life DURATION
//		refresh_life DURATION|off
//	}
func tokens(to **Tokens) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		t := new(Tokens)
		*to = t
		err := option.Block(d, option.Set{"life": option.Duration(&t.Life), "refresh_life": t.unmarshalRefreshLife})
		if err == nil {
			err = t.check()
		}
		if err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func (t *Tokens) unmarshalRefreshLife(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() == "off" {
			t.RefreshLife = noRefresh
			return nil
		}
		d.Prev()
	}
	return option.Duration(&t.RefreshLife)(d)
}

// check returns what's wrong with t, which may be nil.
func (t *Tokens) check() error {
	if t == nil {
		return nil
	}
	if life := time.Duration(t.Life); t.Life != 0 && (life < minTokenLife || life > maxTokenLife) {
		return fmt.Errorf("tokens: life is %v: want %v to %v", life, minTokenLife, maxTokenLife)
	}
	life := time.Duration(t.RefreshLife)
	if t.RefreshLife != 0 && t.RefreshLife != noRefresh && (life < minRefreshLife || life > token.MaxRefreshLife) {
		return fmt.Errorf("tokens: refresh_life is %v: want %v to %v, or off", life, minRefreshLife, token.MaxRefreshLife)
	}
	return nil
}

// setLives sets how long the tokens of a service are good.
func (t *Tokens) setLives(opts *token.Options) {
	if t != nil {
		opts.Life, opts.RefreshLife = time.Duration(t.Life), time.Duration(t.RefreshLife)
	}
}

// errNoTokens is what the option tokens is refused with where none are given.
var errNoTokens = errors.New("tokens: none are given, since callers are asked for passwords: write 'challenge bearer', or leave tokens out")
