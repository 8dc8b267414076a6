package ociregistry

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var update = flag.Bool("update", false, "write the JSON that the Caddyfiles of testdata/adapt mean now")

// adapt turns a Caddyfile into JSON, as 'caddy adapt' does.
func adapt(t *testing.T, in string) (string, error) {
	t.Helper()
	out, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(in), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		t.Errorf("warning for\n%s\n%s", in, w)
	}
	return string(out), err
}

// Each file in testdata/adapt has a Caddyfile, a line of dashes, and the JSON
// that it means.
func TestAdapt(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want, ok := strings.Cut(string(raw), "----------\n")
			if !ok {
				t.Fatal("no line of dashes")
			}
			got, err := adapt(t, in)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(in+"----------\n"+indent(t, got)+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want = indent(t, got), indent(t, want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if f := string(caddyfile.Format([]byte(in))); f != in {
				t.Errorf("'caddy fmt' makes it\n%s", f)
			}
		})
	}
}

func indent(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace([]byte(s)), "", "\t"); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return b.String()
}

// refusedBlocks are blocks of a registry, and parts of why they're refused.
var refusedBlocks = []struct{ name, block, want string }{
	{"unknown", "rot /srv", `unknown option "rot": want one of anonymous, auth, external_url, gc, group, health, max_blob_size, max_manifest_size`},
	{"repeated", "read_only\nread_only", "option read_only is given twice"},
	{"argument of a flag", "read_only yes", `unexpected "yes" after option read_only`},
	{"block of a flag", "read_only {\nx\n}", "read_only"},
	{"second argument", "root /srv /var", `unexpected "/var" after option root`},
	{"no argument", "root", "option root has no value: want root VALUE"},
	{"anonymous", "anonymous some", `anonymous "some": want none or pull or all`},
	{"anonymous what", "anonymous", "want anonymous none|pull|all"},
	{"sparse", "sparse_manifests some", `sparse_manifests "some": want none or indexes or all`},
	{"size", "max_blob_size ten", `max_blob_size "ten": want a size like 4MiB`},
	{"size zero", "max_manifest_size 0", `max_manifest_size "0": want a size`},
	{"size huge", "max_blob_size 10EiB", `max_blob_size "10EiB": want a size`},
	{"URL scheme", "external_url registry.example.com", `external_url "registry.example.com": want https://host`},
	{"URL path", "external_url https://example.com/registry", "want nothing but https://example.com"},
	{"health relative", "health healthz", `health "healthz": want a path like /health`},
	{"health root", "health /", `health "/": want a path like /health`},
	{"health in API", "health /v2/health", "below /v2 is the registry's API"},
	{"gc what", "gc on", `gc "on": want off`},
	{"option of gc", "gc {\nage 1h\n}", `unknown option "age": want one of dangling_referrers, every, grace`},
	{"duration", "gc {\ngrace soon\n}", `grace "soon": want a time like 90m, 24h or 14d`},
	{"negative duration", "gc {\nevery -1h\n}", `every "-1h": want a time`},
	{"window", "gc {\nwindow 22:00\n}", "window 22:00 has no end: want window FROM TO"},
	{"times of a window", "gc {\nwindow 22:00 25:00\n}", `"25:00" is no time of day`},
	{"rate", "gc {\nrate 0\n}", `rate "0": want a number above 0`},
	{"scrub what", "scrub on", `scrub "on": want off`},
	{"option of scrub", "scrub {\nage 1h\n}", `unknown option "age": want one of every, rate, window`},
	{"rate of a scrub", "scrub {\nrate fast\n}", `rate "fast": want a size like 4MiB`},
	{"state", "state disk", `state "disk": want caddy or store`},
	{"auth what", "auth htpasswd", `unexpected argument "htpasswd"`},
	{"option of auth", "auth {\ntoken\n}", `unknown option "token": want one of api_keys, challenge, limits, provider, realm, tokens, upstream`},
	{"option of tokens", "auth {\ntokens {\nage 1h\n}\n}", `unknown option "age": want one of life, refresh_life`},
	{"short token", "auth {\ntokens {\nlife 30s\n}\n}", "tokens: life is 30s: want 1m0s to 24h0m0s"},
	{"long refresh token", "auth {\ntokens {\nrefresh_life 400d\n}\n}", "refresh_life is 9600h0m0s: want 1h0m0s to 8760h0m0s, or off"},
	{"no refresh life", "auth {\ntokens {\nrefresh_life\n}\n}", "refresh_life"},
	{"odd refresh life", "auth {\ntokens {\nrefresh_life on\n}\n}", `refresh_life "on": want a time like 90m`},
	{"provider", "auth {\nprovider\n}", "option provider has no value: want provider "},
	{"no such provider", "auth {\nprovider oci_floppy\n}", "no module http.authentication.providers.oci_floppy is in this build of Caddy: want one of "},
	{"provider of JSON", "auth {\nprovider mute\n}", "provider mute knows no Caddyfile but that of its own directive"},
	{"users of http_basic", "auth {\nprovider http_basic\n}", "provider http_basic has no users"},
	{"hash of a user", "auth {\nprovider http_basic {\nalice\n}\n}", "want alice HASH, which 'caddy hash-password' prints"},
	{"algorithm of hashes", "auth {\nprovider http_basic md5 {\nalice x\n}\n}", `provider http_basic "md5": want bcrypt or argon2id`},
	{"challenge", "auth {\nchallenge digest\n}", `challenge "digest": want auto or basic or bearer`},
	{"upstream of nobody", "auth {\nupstream {\ngroups {x}\n}\n}", "upstream: who is the user?"},
	{"upstream of a name", "auth {\nupstream {\nuser alice\n}\n}", `user "alice" isn't one placeholder alone`},
	{"user of upstream twice", "auth {\nupstream {\nuser {a}\nuser {b}\n}\n}", "option user is given twice"},
	{"auth twice", "auth {\nprovider oci_htpasswd a\n}\nauth {\nprovider oci_htpasswd a\n}", "option auth is given twice"},
	{"two files", "auth {\nprovider oci_htpasswd a b\n}", `unexpected argument "b"`},
	{"group", "group", "want group NAME MEMBER…"},
	{"empty group", "group dev", "group dev has no members"},
	{"group twice", "group dev a\ngroup dev b", "group dev is given twice"},
	{"rule", "policy {\ndeny pull ** to bob\n}", `unknown option "deny": want one of admin, allow, no_overwrite, read_only`},
	{"rule for nothing", "policy {\nallow pull to alice\n}", "allow: which repositories?"},
	{"rule to nobody", "policy {\nallow pull ** alice\n}", "to whom? Want allow ACTION… GLOB… to WHO…"},
	{"no tags", "policy {\nno_overwrite\n}", "no_overwrite: which tags?"},
	{"tags in nothing", "policy {\nno_overwrite v* in\n}", "no_overwrite … in: which repositories?"},
	{"read_only of nothing", "policy {\nread_only\n}", "read_only: which repositories?"},
	{"condition", "policy {\nallow pull ** to a when\n}", "option when has no value: want when MATCHER"},
	{"sync", "sync maybe", `sync "maybe": want on or off`},
	{"root and storage", "root /srv\nstorage memory", "contradict the option storage"},
	{"sync in memory", "storage memory\nsync off", "contradict the option storage"},
	{"path", "path", "want path PREFIX { … }"},
	{"path nowhere", "path team", "path team: where is it? Write 'root PATH'"},
	{"path with a slash", "path /team {\nroot /srv\n}", `path "/team": want what names of repositories begin with`},
	{"path that is no name", "path Team {\nroot /srv\n}", `path "Team": want what names`},
	{"path twice", "path a {\nroot /a\n}\npath a {\nroot /b\n}", "path a is given twice"},
	{"option of path", "path a {\nread_only\n}", `unknown option "read_only": want one of root, storage, sync`},
	{"root and storage of path", "path a {\nroot /srv\nstorage memory\n}", "contradict the option storage"},
	{"storage", "storage floppy", "no module oci_registry.storage.floppy is in this build of Caddy: want one of counted, filesystem, memory, s3"},
	{"storage what", "storage", "want storage counted|filesystem|memory|s3|slow { … }"},
	{"option of memory", "storage memory {\nroot /srv\n}", `unknown option "root": there are no options here`},
	{"option of filesystem", "storage filesystem {\nrot /srv\n}", `unknown option "rot": want one of root, sync`},
	{"root twice in storage", "storage filesystem {\nroot /a\nroot /b\n}", "option root is given twice"},
	{"option of s3", "storage s3 {\nbuckets a\n}", `unknown option "buckets": want one of access_key, bucket, ca`},
	{"argument of s3", "storage s3 registry", `unexpected argument "registry"`},
	{"part size", "storage s3 {\npart_size many\n}", `part_size "many": want a size like 4MiB`},
	{"number", "storage s3 {\nconcurrency 0\n}", `concurrency "0": want a number above 0`},
	{"duration", "storage s3 {\nretry_for 20\n}", `retry_for "20": want a time like 90m`},
	{"duration of nothing", "storage s3 {\nretry_for 0s\n}", `retry_for "0s": want a time like 90m`},
	{"redirect", "storage s3 {\nredirect on\n}", `redirect "on": want off, always, or a size`},
	{"argument of filesystem", "storage filesystem /srv", "write 'root /srv' in its block"},
}

// Each message names the option and says how to put it right.
func TestAdaptRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range refusedBlocks {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []string{
				"example.com {\noci_registry {\n" + tc.block + "\n}\n}",
				"{\noci_registry {\nregistry main {\n" + tc.block + "\n}\n}\n}",
			} {
				if err := whyNot(t, in); !strings.Contains(err, tc.want) {
					t.Errorf("%s\nerr = %s\nwant %s", in, err, tc.want)
				}
			}
		})
	}
}

func TestAdaptRefusesDirective(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"name and block", "example.com {\noci_registry main {\nread_only\n}\n}", "registry main is declared elsewhere and has a block here too"},
		{"two names", "example.com {\noci_registry a b\n}", `unexpected argument "b"`},
		{"folder", "example.com {\noci_registry /srv/registry\n}", "write 'root /srv/registry' in the block"},
		{"folder with dots", "example.com {\noci_registry ./registry\n}", "write 'root ./registry' in the block"},
		{"global with a name", "{\noci_registry main\n}", "write 'oci_registry { registry main { … } }'"},
		{"global twice", "{\noci_registry {\nregistry a\n}\noci_registry {\nregistry b\n}\n}", "the global option oci_registry is given twice"},
		{"global unknown", "{\noci_registry {\nroot /srv\n}\n}", `unknown option "root": want registry NAME`},
		{"global no name", "{\noci_registry {\nregistry\n}\n}", "want registry NAME { … }"},
		{"declared twice", "{\noci_registry {\nregistry a\nregistry a\n}\n}", "registry a is declared twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if err := whyNot(t, tc.in); !strings.Contains(err, tc.want) {
				t.Errorf("err = %s\nwant %s", err, tc.want)
			}
		})
	}
}

// whyNot returns why in can't be adapted, or "no error".
func whyNot(t *testing.T, in string) string {
	t.Helper()
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(in), map[string]any{"filename": "Caddyfile"})
	if err == nil {
		return "no error"
	}
	return err.Error()
}
