package serve

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
)

// usual has a folder, and serves nothing.
var usual = Module{Root: func() string { return "/usual/registry" }}

// greetings are what servers print, and may not print.
var greetings = []struct {
	name      string
	server    Server
	anonymous authz.Anonymous
	want      []string
	absent    []string
}{
	{
		"default",
		Server{},
		authz.AnonymousAll,
		[]string{"listens on  http://127.0.0.1:5000\n", "docker push localhost:5000/hello", "stores in   /usual/registry\n"},
		[]string{"insecure-registries", "basic_auth"},
	}, {
		"IPv6",
		Server{Listen: "[::1]:5001"},
		authz.AnonymousAll,
		[]string{"http://[::1]:5001\n", "docker push localhost:5001/hello"},
		nil,
	}, {
		"no port",
		Server{Listen: "127.0.0.2"},
		authz.AnonymousAll,
		[]string{"http://127.0.0.2:5000\n"},
		nil,
	}, {
		"everywhere",
		Server{Listen: ":5000", Root: "/srv/registry"},
		authz.AnonymousPull,
		[]string{"nobody may push", "basic_auth", "http://:5000 {", "port 5000 of every address", "HOST is what clients call this machine", "root /srv/registry", `{"insecure-registries": ["HOST:5000"]}`},
		nil,
	}, {
		"one address",
		Server{Listen: "192.0.2.1:80"},
		authz.AnonymousPull,
		[]string{"listens on  http://192.0.2.1:80\n", `{"insecure-registries": ["192.0.2.1:80"]}`},
		nil,
	}, {
		"domain",
		Server{Domain: "registry.example.com"},
		authz.AnonymousPull,
		[]string{"listens on  https://registry.example.com\n", "registry.example.com {", "nobody may push"},
		[]string{"insecure-registries", "http://"},
	}, {
		"domain and port",
		Server{Domain: "registry.example.com", Listen: ":8443"},
		authz.AnonymousPull,
		[]string{"listens on  https://registry.example.com:8443\n"},
		[]string{"insecure-registries"},
	}, {
		"read-only",
		Server{Listen: ":5000", ReadOnly: true},
		authz.AnonymousPull,
		[]string{"read-only", "docker pull HOST:5000/hello"},
		[]string{"docker push", "basic_auth"},
	}, {
		"socket",
		Server{Listen: "unix//run/registry.sock"},
		authz.AnonymousPull,
		[]string{"listens on  unix//run/registry.sock\n", "nobody may push"},
		nil,
	},
}

// Who may push without signing in hangs on the address, and what is printed says it.
func TestGreeting(t *testing.T) {
	t.Parallel()
	for _, tc := range greetings {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.server.Module = usual
			if err := tc.server.setDefaults(); err != nil {
				t.Fatal(err)
			}
			if got := tc.server.anonymous(); got != tc.anonymous {
				t.Errorf("anonymous %s, want %s", got, tc.anonymous)
			}
			got := tc.server.Greeting()
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			for _, absent := range tc.absent {
				if strings.Contains(got, absent) {
					t.Errorf("%q in\n%s", absent, got)
				}
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", taken.Addr().String()}, "something else listens on " + taken.Addr().String() + " already"},
		{[]string{"--listen", "localhost:port"}, "--listen:"},
		{[]string{"--root", "/dev/null/registry"}, "--root:"},
		{[]string{"extra"}, "unknown command"},
		{[]string{"--rot"}, "unknown flag"},
	} {
		cmd := Command(Module{Root: t.TempDir})
		cmd.SetArgs(tc.args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("serve %v: %v, want %s", tc.args, err, tc.want)
		}
	}
}
