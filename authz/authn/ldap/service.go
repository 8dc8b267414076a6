package ldap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// errCredentials marks what is wrong with Options.BindDN and its password, which no
// server of the directory will see differently.
var errCredentials = errors.New("the account that searches can't sign in")

// bindService makes a connection that of Options.BindDN.
func (s *Source) bindService(ctx context.Context, c *conn) error {
	if s.opts.BindDN == "" {
		return nil // a connection is anonymous until it's bound
	}
	password, err := s.opts.Password()
	switch {
	case err != nil:
		return fmt.Errorf("%w: password of %s: %w", errCredentials, s.opts.BindDN, err)
	case password == "":
		return fmt.Errorf("%w: the password of %s is empty", errCredentials, s.opts.BindDN)
	case s.refusal.holds(password):
		return fmt.Errorf("%w: the password of %s was refused a moment ago", errCredentials, s.opts.BindDN)
	}
	err = c.ask(ctx, func(l *ldap.Conn) error { return l.Bind(s.opts.BindDN, password) })
	switch {
	case isAnswer(err, refusals...):
		s.refusal.note(password)
		return fmt.Errorf("%w: bind as %s: %w", errCredentials, s.opts.BindDN, err)
	case err != nil:
		return fmt.Errorf("bind as %s: %w", s.opts.BindDN, err)
	}
	return nil
}

// refusedFor is how long a refused password of Options.BindDN isn't tried again:
// directories lock accounts that are wrong too often.
const refusedFor = 2 * time.Second

// A refusal is the password that was refused last. The zero refusal is none.
type refusal struct {
	mu       sync.Mutex
	password string
	at       time.Time
}

func (r *refusal) note(password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.password, r.at = password, time.Now()
}

func (r *refusal) holds(password string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return password == r.password && time.Since(r.at) < refusedFor
}
