package ldap_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-ldap/ldap/v3"

	ldapsource "github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	for range 20 {
		if _, err := login(t, s, "alice", "password of alice"); err != nil {
			t.Fatal(err)
		}
		_, err := login(t, s, "alice", "wrong")
		mustRefuse(t, "a wrong password", err)
	}
	if opened, dialed, _ := d.connections(); opened != 2 || dialed != 2 {
		t.Errorf("%d connections were made, %d are open; want one for searches, one for binds", dialed, opened)
	}
	mustBeApart(t, d)
}

// mustBeApart fails the test if a connection was used to search that a user had bound.
func mustBeApart(t *testing.T, d *directory) {
	t.Helper()
	searches := map[int]bool{}
	for _, r := range d.requests() {
		isSearch := r.op == "search" || r.dn == service
		if was, ok := searches[r.conn]; ok && was != isSearch {
			t.Errorf("connection %d is used for searches and for binds", r.conn)
		}
		searches[r.conn] = isSearch
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		s := open(t, d, func(o *ldapsource.Options) { o.Connections = 3 })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := login(t, s, "alice", "password of alice"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if opened, _, most := d.connections(); most > 6 || opened > 6 {
			t.Errorf("there were %d connections at once, %d are left; want at most 3 for searches and 3 for binds", most, opened)
		}

		// One who has to wait waits no longer than there's time.
		d.set(func() { d.fault = func(request) fault { return hang } })
		for range 3 {
			all.Go(func() {
				_, err := s.Lookup(t.Context(), "alice")
				mustFail(t, "a server that hangs", err)
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := s.Lookup(ctx, "alice")
		mustFail(t, "all connections are in use", err)
		if took := time.Since(begin); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited for %v: %v", took, err)
		}
		all.Wait()
		d.set(func() { d.fault = nil })
		if _, err := s.Lookup(t.Context(), "alice"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestIdleConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		s := open(t, d, func(o *ldapsource.Options) { o.Idle = 20 * time.Second })
		_, err := login(t, s, "alice", "password of alice")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after time.Duration
			left  int
		}{{19 * time.Second, 2}, {time.Second + 1, 0}} {
			time.Sleep(c.after)
			synctest.Wait()
			if opened, _, _ := d.connections(); opened != c.left {
				t.Errorf("%v later there are %d connections, want %d", c.after, opened, c.left)
			}
		}
		for range 5 { // used often enough, they stay
			if _, err := login(t, s, "alice", "password of alice"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
		}
		if opened, dialed, _ := d.connections(); opened != 2 || dialed != 4 {
			t.Errorf("there are %d connections, and %d were made; want 2 and 4", opened, dialed)
		}
	})
}

// TestOneIdleOfMany closes those that aren't needed any more, and leaves the others.
func TestOneIdleOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		s := open(t, d)
		d.set(func() { d.pause = time.Second })
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := s.Lookup(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if opened, _, _ := d.connections(); opened != 8 {
			t.Fatalf("%d connections for 8 at once", opened)
		}
		for range 70 {
			if _, err := s.Lookup(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
		}
		if opened, dialed, _ := d.connections(); opened != 1 || dialed != 8 {
			t.Errorf("there are %d connections and %d were made, want 1 and 8", opened, dialed)
		}
		time.Sleep(time.Minute + 1)
		synctest.Wait()
		if opened, _, _ := d.connections(); opened != 0 {
			t.Errorf("there are %d connections that nobody needs", opened)
		}
	})
}

// TestNoConnectionIsForEver: what a connection knows of an order of servers, or of a
// password, is forgotten some day.
func TestNoConnectionIsForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		s := open(t, d)
		for range 13 * 60 / 10 {
			if _, err := s.Lookup(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if opened, dialed, _ := d.connections(); opened != 1 || dialed != 2 {
			t.Errorf("in 13 minutes %d connections were made, %d are open; want 2 and 1", dialed, opened)
		}
	})
}

// TestTheServerRestarts: connections that are broken are replaced, and nobody is told.
func TestTheServerRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		d.pause = time.Millisecond
		s := open(t, d)
		crowd := func() {
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					if _, err := login(t, s, "alice", "password of alice"); err != nil {
						t.Error(err)
					}
					_, err := login(t, s, "bob", "wrong")
					mustRefuse(t, "a wrong password", err)
				})
			}
			all.Wait()
		}
		crowd()
		d.hangUpAll()
		crowd()
		// Those that break are only found out when they're used.
		broken := map[int]bool{}
		d.set(func() {
			last := d.dialed
			d.fault = func(r request) fault {
				if r.conn <= last && !broken[r.conn] {
					broken[r.conn] = true
					return hangUp
				}
				return none
			}
		})
		crowd()
	})
}

// TestAServerHangs: it costs the first who meets it some time, and not one for each
// connection to it.
func TestAServerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		d.pause = time.Millisecond
		s := open(t, d, urls)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := s.Lookup(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		d.set(func() { d.fault = first(hang) })
		for i := range 2 {
			begin := time.Now()
			for range 1 + 3*i {
				all.Go(func() {
					if _, err := s.Lookup(t.Context(), "alice"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(begin); i > 0 && took > time.Second || took > 4*time.Second {
				t.Errorf("%d: it takes %v", i, took)
			}
		}
	})
}

// TestACallerWhoGoesAway takes a connection along, and no server is blamed for it.
func TestACallerWhoGoesAway(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"bind", "search"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDirectory(t)
			s := open(t, d, urls)
			d.set(func() {
				d.fault = func(r request) fault {
					if r.op == op {
						return hang
					}
					return none
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := s.Lookup(ctx, "alice")
			mustFail(t, "a caller who goes away", err)
			synctest.Wait()
			if opened, dialed, _ := d.connections(); opened != 0 || dialed != 1 {
				t.Errorf("%s: %d connections were made, %d are left", op, dialed, opened)
			}
			d.set(func() { d.fault = nil })
			d.requests()
			if _, err := s.Lookup(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
			if r := d.requests()[0]; r.address != "one:389" {
				t.Errorf("%s: the server is %s now", op, r.address)
			}
		})
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		d.pause = time.Second
		s := open(t, d)
		if _, err := login(t, s, "alice", "password of alice"); err != nil {
			t.Fatal(err)
		}
		var inProgress sync.WaitGroup
		inProgress.Go(func() {
			if _, err := login(t, s, "alice", "password of alice"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if opened, _, _ := d.connections(); opened != 1 {
			t.Errorf("%d connections are open beside the one in use", opened-1)
		}
		inProgress.Wait()
		if _, err := login(t, s, "alice", "password of alice"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if opened, _, _ := d.connections(); opened != 0 {
			t.Errorf("%d connections are open", opened)
		}
	})
}

// urls are three servers of one directory.
func urls(o *ldapsource.Options) { o.URLs = []string{"ldap://one", "ldap://two:1389", "ldap://[::1]"} }

func TestServersInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t)
		s := open(t, d, urls, func(o *ldapsource.Options) { o.Idle = time.Nanosecond }) // each time a new connection
		asks := func(want string) {
			t.Helper()
			time.Sleep(time.Second)
			d.requests()
			_, err := s.Lookup(t.Context(), "alice")
			if want == "" {
				mustFail(t, "no server", err)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if got := d.requests(); got[len(got)-1].address != want {
				t.Errorf("%s was asked, want %s", got[len(got)-1].address, want)
			}
		}
		asks("one:389")
		d.set(func() { d.down["one:389"] = true })
		asks("two:1389")
		d.set(func() { d.down["two:1389"] = true })
		asks("[::1]:389")
		d.set(func() { d.down["one:389"] = false })
		asks("[::1]:389") // not before some time has passed
		d.set(func() { d.down["[::1]:389"] = true })
		asks("one:389") // or all others fail
		d.set(func() { d.down["[::1]:389"], d.down["two:1389"] = false, false })
		time.Sleep(30 * time.Second)
		asks("one:389")
		d.set(func() { d.down["one:389"], d.down["[::1]:389"], d.down["two:1389"] = true, true, true })
		asks("")
		d.set(func() { d.down["two:1389"] = false })
		asks("two:1389")
	})
}

// TestAServerThatFailsIsAvoided: one that answers too late, or that it's away, or not at
// all, is a failure to those alone who met it.
func TestAServerThatFailsIsAvoided(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*directory){
		"hangs":         func(d *directory) { d.fault = first(hang) },
		"hangs up":      func(d *directory) { d.fault = first(hangUp) },
		"is busy":       func(d *directory) { d.answer = away(ldap.LDAPResultBusy, "") },
		"isn't there":   func(d *directory) { d.answer = away(ldap.LDAPResultUnavailable, "") },
		"can't search":  func(d *directory) { d.answer = away(ldap.LDAPResultBusy, "search") },
		"doesn't exist": func(d *directory) { d.down["one:389"] = true },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDirectory(t)
				fail(d)
				s := open(t, d, urls)
				if _, err := login(t, s, "alice", "password of alice"); err != nil {
					t.Fatal(err)
				}
				d.requests()
				begin := time.Now()
				for range 3 {
					if _, err := login(t, s, "alice", "password of alice"); err != nil {
						t.Error(err)
					}
				}
				for _, r := range d.requests() {
					if r.address != "two:1389" {
						t.Errorf("%s is asked", r.address)
					}
				}
				if took := time.Since(begin); took != 0 {
					t.Errorf("it takes %v", took)
				}
			})
		})
	}
}

// away is the first server's answer to one kind of request, or to all.
func away(result int64, op string) func(request) int64 {
	return func(r request) int64 {
		if r.address == "one:389" && (op == "" || op == r.op) {
			return result
		}
		return 0
	}
}

// first is a fault of the first server.
func first(f fault) func(request) fault {
	return func(r request) fault {
		if r.address == "one:389" {
			return f
		}
		return none
	}
}

// TestWrongCredentialsAreNoFailure: asking all servers would lock the account sooner.
func TestWrongCredentialsAreNoFailure(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.set(func() { d.password[service] = "other" })
	s := open(t, d, urls)
	_, err := s.Lookup(t.Context(), "alice")
	mustFail(t, "a wrong password of the service account", err)
	if _, dialed, _ := d.connections(); dialed != 1 || d.ops() != "bind" {
		t.Errorf("it was tried on %d connections", dialed)
	}
}
