//go:build real

package ldap_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

// A crowd signs in and is refused, again and again, and never the wrong one of both.
type crowd struct {
	t      *testing.T
	s      *ldap.Source
	all    sync.WaitGroup
	stop   context.CancelFunc
	well   atomic.Int64 // answers
	failed atomic.Int64 // errors that refuse nobody
}

func newCrowd(t *testing.T, s *ldap.Source) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{t: t, s: s, stop: cancel}
	t.Cleanup(c.end)
	for i := range 6 {
		c.all.Go(func() {
			for ctx.Err() == nil {
				c.turn(context.WithoutCancel(ctx), i)
			}
		})
	}
	return c
}

func (c *crowd) end() {
	c.stop()
	c.all.Wait()
}

func (c *crowd) turn(ctx context.Context, i int) {
	name, password, want := "alice", "password of alice", error(nil)
	switch i % 3 {
	case 1:
		password, want = "wrong", authn.ErrRefused
	case 2:
		name, want = "nobody", authn.ErrRefused
	}
	_, err := c.s.Authenticate(ctx, name, password)
	switch {
	case errors.Is(err, want):
		c.well.Add(1)
	case err == nil || errors.Is(err, authn.ErrRefused):
		c.t.Errorf("%s with %q: %v, want %v", name, password, err, want)
	default:
		c.failed.Add(1)
		time.Sleep(time.Millisecond)
	}
}

// goesOn waits until the crowd has had so many more answers.
func (c *crowd) goesOn(n int64) {
	c.t.Helper()
	c.until(&c.well, n, "answers")
}

func (c *crowd) until(count *atomic.Int64, n int64, what string) {
	c.t.Helper()
	want := count.Load() + n
	for begin := time.Now(); count.Load() < want; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			c.t.Fatalf("%d more %s in a minute, want %d", n-(want-count.Load()), what, n)
		}
	}
}

// patient is for tests in which nothing hangs but the machine they run on.
func patient(o *ldap.Options) { o.Step, o.Limit = 20*time.Second, time.Minute }

// TestTheServerIsKilledUnderLoad: while it's away nobody is refused for it, and once it's
// back everything is as before.
func TestTheServerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.user("alice", uid("alice"))
	c := newCrowd(t, d.open(t, patient))
	for range 3 {
		c.goesOn(200)
		d.Kill()
		c.until(&c.failed, 20, "errors")
		d.Restart()
		c.goesOn(200)
		before := c.failed.Load()
		c.goesOn(200)
		if after := c.failed.Load(); after != before {
			t.Errorf("%d errors after the restart", after-before)
		}
	}
}

// TestTheServerHangsUnderLoad: who asks a server that's stopped gets an error, and once it
// goes on everything is as before.
func TestTheServerHangsUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.user("alice", uid("alice"))
	c := newCrowd(t, d.open(t, func(o *ldap.Options) { o.Step, o.Limit, o.Connections = time.Second, 4*time.Second, 2 }))
	c.goesOn(100)
	d.Tell(syscall.SIGSTOP)
	c.until(&c.failed, 12, "errors")
	d.Tell(syscall.SIGCONT)
	c.goesOn(100)
}

// TestAnotherServerTakesOver: with two of them the death of one is noticed by nobody.
func TestAnotherServerTakesOver(t *testing.T) {
	t.Parallel()
	d, other := newDirectory(t), newDirectory(t)
	d.user("alice", uid("alice"))
	other.user("alice", uid("alice"))
	both := d.trusting(t)
	if !both.RootCAs.AppendCertsFromPEM(other.pem(t)) {
		t.Fatal("no certificate")
	}
	c := newCrowd(t, d.open(t, patient, func(o *ldap.Options) {
		o.URLs, o.TLS = []string{d.Secure, other.Plain}, both
	}))
	c.goesOn(200)
	d.Kill()
	c.goesOn(200)
	d.Restart()
	other.Kill()
	c.goesOn(200)
	c.end()
	if n := c.failed.Load(); n != 0 {
		t.Errorf("%d errors, though one of two servers was there", n)
	}
}

// TestThePasswordRotatesUnderLoad: the account that searches gets another password, in
// the order in which that's done: both hold for a while.
func TestThePasswordRotatesUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.user("alice", uid("alice"))
	c := newCrowd(t, d.open(t, patient, func(o *ldap.Options) { o.Idle = time.Nanosecond })) // a bind for each search
	c.goesOn(100)
	old := *d.secret.Load()
	for i := range 3 {
		secret := fmt.Sprint("secret ", i)
		d.Replace(service, "userPassword", old, secret)
		c.goesOn(50)
		d.secret.Store(&secret)
		c.goesOn(50)
		d.Replace(service, "userPassword", secret)
		c.goesOn(50)
		old = secret
	}
	c.end()
	if n := c.failed.Load(); n != 0 {
		t.Errorf("%d errors while the password was rotated", n)
	}
}
