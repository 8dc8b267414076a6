//go:build real

package bench

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// The names of the systems that the benchmark starts by itself.
const (
	synced       = "caddy"         // this registry, as it is without options
	unsynced     = "caddy unsync"  // with sync off
	single       = "caddy one tag" // the same, in a process that has one image and no more
	responding   = "caddy respond" // the site beside the registry, in the process of the first
	distribution = "distribution"  // Debian's docker-registry
)

// A system is a running registry that is measured.
type system struct {
	name  string
	addr  string // host:port
	pid   int
	admin string // the URL of Caddy's admin endpoint; empty if it has none
	user  string // NAME:PASSWORD of somebody who may push; empty if anybody may

	stop    func()  // nil if it was running before
	restart func()  // starts what stop has stopped, on the same folder
	serial  *serial // makes the names of what's pushed differ
}

// ours starts this registry on a folder, open to all.
func ours(t *testing.T, name, root, sync string) *system {
	t.Helper()
	return oursWith(t, name, root, "anonymous all\nsync "+sync)
}

// oursWith starts this registry on a folder, with options, and in the same process a
// site called respond.localhost that is as little as Caddy can be asked for.
func oursWith(t *testing.T, name, root, options string) *system {
	t.Helper()
	s := &system{name: name, serial: newSerial()}
	s.restart = func() {
		srv := registry.Config(t, fmt.Sprintf(`{
			admin ADMIN
			persist_config off
		}
		http://HOST {
			bind 127.0.0.1
			oci_registry {
				root %q
				%s
				health /health
			}
		}
		http://respond.localhost:PORT {
			bind 127.0.0.1
			respond "hello"
		}`, root, options))
		s.addr, s.pid, s.admin, s.stop = srv.Host, srv.Pid, srv.Admin.URL, srv.Stop
	}
	s.restart()
	return s
}

// beside is the site that is beside the registry.
func (s *system) beside() *system {
	return &system{name: responding, addr: s.addr, pid: s.pid, admin: s.admin, serial: newSerial()}
}

// plain starts the same program with nothing but a site that responds.
func plain(t *testing.T) *system {
	t.Helper()
	srv := registry.Config(t, `{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		respond "hello"
	}`)
	return &system{name: "caddy alone", addr: srv.Host, pid: srv.Pid, admin: srv.Admin.URL, stop: srv.Stop}
}

// debian starts Debian's docker-registry, which is distribution 2.8.
func debian(t *testing.T) *system {
	t.Helper()
	return debianWith(t, distribution, "")
}

// debianWith starts it with lines of configuration.
func debianWith(t *testing.T, name, lines string) *system {
	t.Helper()
	program := tool.Find(t, "docker-registry")
	// It takes what begins with REGISTRY_ for its configuration.
	program.Env = slices.DeleteFunc(program.Env, func(v string) bool { return strings.HasPrefix(v, "REGISTRY_") })
	root := place(t)
	s := &system{name: name, serial: newSerial()}
	s.restart = func() {
		srv := registry.Other(t, program, func(host string) []string {
			path := filepath.Join(program.Dir, "config.yml")
			config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
				"storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n%s", root, host, lines)
			if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"serve", path}
		})
		s.addr, s.pid, s.stop = srv.Host, srv.Pid, srv.Stop
	}
	s.restart()
	return s
}

// peers are the registries that are running already: $PEERS has name=URL of
// each, with spaces between them, and $PEER_USERS name=USER:PASSWORD of those where not
// everybody may push. They listen on loopback.
func peers(t *testing.T) []*system {
	t.Helper()
	users := make(map[string]string)
	for peer := range strings.FieldsSeq(os.Getenv("PEER_USERS")) {
		name, user, ok := strings.Cut(peer, "=")
		if !ok || !strings.Contains(user, ":") {
			t.Fatal("PEER_USERS: want name=USER:PASSWORD")
		}
		users[name] = user
	}
	var all []*system
	for peer := range strings.FieldsSeq(os.Getenv("PEERS")) {
		name, where, ok := strings.Cut(peer, "=")
		u, err := url.Parse(where)
		if !ok || err != nil || u.Scheme != "http" || u.Host == "" {
			t.Fatalf("PEERS has %q, want name=http://host:port", peer)
		}
		pid, err := listener(u.Host)
		if err != nil {
			t.Fatalf("PEERS: %s: %v", name, err)
		}
		all = append(all, &system{name: name, addr: u.Host, pid: pid, user: users[name], serial: newSerial()})
	}
	return all
}
