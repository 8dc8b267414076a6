//go:build !noauth

package providers

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
)

func init() { caddy.RegisterModule(failingApp{}) }

// failingApp is an app that can't be started.
type failingApp struct{}

func (failingApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failing", New: func() caddy.Module { return new(failingApp) }}
}

func (*failingApp) Start() error { return errors.New("this app never starts") }
func (*failingApp) Stop() error  { return nil }

// siteWith is the configuration of a site whose users are in a file, and which has another
// name each time.
func siteWith(t *testing.T, file, name string, apps map[string]any) []byte {
	t.Helper()
	all := map[string]any{"http": map[string]any{"servers": map[string]any{name: map[string]any{
		"listen": []string{"127.0.0.1:0"}, "automatic_https": map[string]any{"disable": true},
		"routes": []any{map[string]any{"handle": []any{map[string]any{
			"handler": "authentication", "providers": map[string]any{"oci_htpasswd": map[string]string{"file": file}},
		}}}},
	}}}}
	maps.Copy(all, apps)
	config, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "FATAL"}}},
		"apps":    all,
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// A file's users, and what was verified of them, outlive reloads; nothing is left
// once no configuration has it.
func TestHtpasswdIsShared(t *testing.T) { //nolint:paralleltest // a process runs one Caddy
	file := filepath.Join(t.TempDir(), "users")
	const alice = "alice:$2a$04$RmShXd8s2Lp8w5jz7ApfI.FFc3/Bqyh7HP.suzhD.PMKZYbOCvB6K\n"
	if err := os.WriteFile(file, []byte(alice), 0o600); err != nil {
		t.Fatal(err)
	}
	shared := func() (found any) {
		userPool.Range(func(key, value any) bool {
			if key == "oci_htpasswd "+file {
				found = value
			}
			return true
		})
		return found
	}
	load := func(name string, apps map[string]any) error { return caddy.Load(siteWith(t, file, name, apps), true) }
	if err := load("first", nil); err != nil {
		t.Fatal(err)
	}
	first := shared()
	if err := load("second", nil); err != nil || first == nil || shared() != first {
		t.Errorf("after a reload it's %v, was %v: %v", shared(), first, err)
	}
	if err := load("third", map[string]any{"failing": map[string]any{}}); err == nil {
		t.Error("an app that never starts was started")
	}
	if shared() != first {
		t.Error("a reload that failed has changed it")
	}
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON(siteWith(t, file, "fourth", nil), &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(c); err != nil || shared() != first {
		t.Errorf("validating: %v", err)
	}
	if err := caddy.Stop(); err != nil || shared() != nil {
		t.Errorf("%v; after the end it's %v", err, shared())
	}
}
