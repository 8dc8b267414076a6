package ociregistry

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// validate is 'caddy validate'.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON(quiet(t, config), &c); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(c)
}

// badConfig is a configuration and a part of the error that it's refused with.
type badConfig struct{ name, global, site, want string }

// sharedRoots keep what two registries have in one place, by the name root or link.
func sharedRoots(root, link string) []badConfig {
	return []badConfig{
		{
			"two declared on one root",
			"oci_registry {\nregistry a {\nroot " + root + "\n}\nregistry b {\nroot " + root + "/sub/..\n}\n}", "",
			"registries a and b both keep their content in filesystem " + root,
		}, {
			"one root by a link",
			"oci_registry {\nregistry a {\nroot " + root + "/new\n}\nregistry b {\nroot " + link + "/new\n}\n}", "",
			"registries a and b both keep their content in filesystem " + root + "/new",
		}, {
			"two sites on one root",
			"", "handle /v2/* {\noci_registry {\nroot " + root + "\n}\n}\nhandle {\noci_registry {\nroot " + root + "\nread_only\n}\n}",
			"use it by name in every site ('oci_registry NAME')",
		}, {
			"two in the same memory",
			"oci_registry {\nregistry a {\nstorage memory\n}\nregistry b {\nstorage memory\n}\n}", "",
			"registries a and b both keep their content in memory",
		}, {
			"declared and described",
			"oci_registry {\nregistry a {\nroot " + root + "\n}\n}", "oci_registry {\nroot " + root + "\n}",
			"registries a and inline both keep their content",
		}, {
			"one root inside another",
			"oci_registry {\nregistry a {\nroot " + root + "/x\n}\nregistry b {\nroot " + root + "/x/team\n}\n}", "",
			"the content of registry b would lie inside that of registry a",
		},
	}
}

var unusable = []badConfig{
	{
		"undeclared",
		"oci_registry {\nregistry main {\nstorage memory\n}\n}", "oci_registry mian",
		`registry "mian" isn't declared (declared: main): declare it with the global option 'oci_registry { registry mian { … } }'`,
	}, {
		"none declared",
		"", "oci_registry main", `registry "main" isn't declared (declared: none)`,
	}, {
		"placeholder of a root",
		"", "oci_registry {\nroot {env.NO_SUCH_VARIABLE_HERE}/x\n}", `root "{env.NO_SUCH_VARIABLE_HERE}/x": `,
	}, {
		"file of a root",
		"", "oci_registry {\nroot {file./no/such/file}\n}", `root "{file./no/such/file}": `,
	}, {
		"file of a URL",
		"", "oci_registry {\nexternal_url {file./no/such/file}\n}", `external_url "{file./no/such/file}": `,
	}, {
		"placeholder of health",
		"", "oci_registry {\nhealth /{env.NO_SUCH_VARIABLE_HERE}\n}", `health "/{env.NO_SUCH_VARIABLE_HERE}": `,
	}, {
		"placeholder of a request",
		"", "oci_registry {\nroot /srv/{host}\n}", `root "/srv/{http.request.host}": `,
	}, {
		"URL in a placeholder",
		"", "oci_registry {\nexternal_url {env.OCI_TEST_WORD}\n}", `external_url "word": want https://host`,
	}, {
		"health in a placeholder",
		"", "oci_registry {\nhealth {env.OCI_TEST_WORD}\n}", `health "word": want a path like /health`,
	},
}

// What no Caddyfile can say wrong, JSON can, and some of it shows only when all
// registries are known. Nothing of it gets as far as being served.
func TestValidateRefuses(t *testing.T) {
	t.Setenv("OCI_TEST_WORD", "word")
	w := newWeb(t)
	root := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range append(sharedRoots(root, link), unusable...) {
		t.Run(tc.name, func(t *testing.T) {
			err := validate(t, w.config(t, tc.global, tc.site))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestValidateRefusesJSON(t *testing.T) {
	const uses = `"registry":"main"`
	for _, tc := range []struct{ name, registry, handler, want string }{
		{"unknown in a registry", `"rot":1`, uses, `unknown field "rot"`},
		{"unknown in a handler", ``, `"rot":1`, `unknown field "rot"`},
		{"unknown in a storage", `"storage":{"module":"memory","rot":1}`, uses, `unknown field "rot"`},
		{"no such storage", `"storage":{"module":"floppy"}`, uses, "unknown module: oci_registry.storage.floppy"},
		{"anonymous", `"anonymous":"some"`, uses, `anonymous "some": want none, pull or all`},
		{"sparse", `"sparse_manifests":"some"`, uses, `sparse_manifests "some": want none, indexes or all`},
		{"manifest size", `"max_manifest_size":-1`, uses, "max_manifest_size -1"},
		{"blob size", `"max_blob_size":-1`, uses, "max_blob_size -1"},
		{"grace", `"gc":{"grace":"10s"}`, uses, "gc: grace is 10s: want at least 1m0s"},
		{"interval", `"gc":{"every":"1s"}`, uses, "gc: every is 1s: want at least 1m0s"},
		{"kept and not kept", `"gc":{"keep_untagged":true,"untagged_grace":"1h"}`, uses, "gc: keep_untagged and untagged_grace contradict"},
		{"window", `"gc":{"window":"night"}`, uses, `gc: window "night": want FROM-TO`},
		{"rate", `"gc":{"rate":-1}`, uses, "gc: rate is -1"},
		{"scrub", `"scrub":{"every":"1s"}`, uses, "scrub: every is 1s: want at least 1m0s"},
		{"rate of a scrub", `"scrub":{"rate":-1}`, uses, "scrub: rate is -1"},
		{"window of a scrub", `"scrub":{"window":"night"}`, uses, `scrub: window "night": want FROM-TO`},
		{"scrub in memory", `"storage":{"module":"memory"},"scrub":{}`, uses, "scrub: storage memory keeps nothing"},
		{"garbage in memory", `"storage":{"module":"memory"},"gc":{}`, uses, "gc: storage memory collects no garbage"},
		{"URL", `"external_url":"ftp://a"`, uses, `external_url "ftp://a"`},
		{"health", `"health":"x"`, uses, `health "x"`},
		{"described and used", ``, `"registry":"main","read_only":true`, `registry "main" is described where it's used, by {"read_only":true}`},
		{"named and used", ``, `"registry":"main","name":"other"`, `registry "main" has another name, "other", where it's used`},
		{"taken name", ``, `"name":"main","storage":{"module":"memory"}`, "two registries called main"},
		{"name", ``, `"name":"a/b","storage":{"module":"memory"}`, `registry name "a/b"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := validate(t, fmt.Appendf(nil, `{"admin":{"disabled":true},"apps":{"oci_registry":{"registries":{"main":{%s}}},`+
				`"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"oci_registry",%s}]}]}}}}}`, tc.registry, tc.handler))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v\nwant %s", err, tc.want)
			}
		})
	}
}

// A null declares a registry with all defaults, as an empty object does.
func TestNullRegistry(t *testing.T) {
	if err := validate(t, []byte(`{"admin":{"disabled":true},"apps":{"oci_registry":{"registries":{"main":null}}}}`)); err != nil {
		t.Fatal(err)
	}
}

// Options that are free text take placeholders, and what those stand for is
// nowhere but where it's used.
func TestPlaceholders(t *testing.T) {
	root := filepath.Join(t.TempDir(), "registry")
	file := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(file, []byte(root+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OCI_TEST_HOST", "registry.example.com")
	t.Setenv("OCI_TEST_HEALTH", "healthy")
	w := newWeb(t)
	site := "oci_registry {\nroot {file." + file + "}\nexternal_url https://{env.OCI_TEST_HOST}\nhealth /{env.OCI_TEST_HEALTH}\nanonymous all\n}"
	admin := w.runWithAdmin(t, "", site)
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "a", "index.json")); err != nil {
		t.Error(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/healthy/readyz", "")
	var one status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/inline", ""), &one)
	if want := (status{Name: "inline", Storage: place{Module: "filesystem", Identity: root}, Anonymous: "all", External: "https://registry.example.com", Ready: true}); !reflect.DeepEqual(one, want) {
		t.Errorf("got %+v, want %+v", one, want)
	}
	config := admin.want(t, http.StatusOK, http.MethodGet, "/config/", "").body
	for _, value := range []string{root, "registry.example.com", "healthy"} {
		if strings.Contains(config, value) {
			t.Errorf("/config/ has %s", value)
		}
	}
}

// Caddy has one copy of a site's handlers for each of its listeners.
func TestOneSiteOnTwoListeners(t *testing.T) {
	w, other := newWeb(t), newWeb(t)
	config := w.config(t, "", inMemory)
	var c struct {
		Apps struct {
			HTTP struct{ Servers map[string]map[string]any }
		}
	}
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	servers := c.Apps.HTTP.Servers
	servers["twin"] = maps.Clone(servers["srv0"])
	servers["twin"]["listen"] = []string{other.addr}
	raw, err := json.Marshal(servers)
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, withJSON(t, config, string(raw), "apps", "http", "servers")))
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	other.want(t, http.StatusOK, http.MethodGet, "/v2/a/manifests/v1", "", "Host", w.addr)
}

// Several sites may use one registry, and one Caddy may have several.
func TestSitesAndRegistries(t *testing.T) {
	w := newWeb(t)
	global := "oci_registry {\nregistry a {\nstorage memory a\nanonymous all\n}\nregistry b {\nstorage memory b\nanonymous all\n}\n}"
	w.run(t, global, "@b header X-Registry b\nroute {\noci_registry @b b\noci_registry a\n}")
	if err := w.push(t.Context(), "image", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/image/manifests/v1", "")
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/image/manifests/v1", "", "X-Registry", "b")
	w.run(t, global, "@b header X-Registry b\nroute {\noci_registry @b a\noci_registry b\n}")
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/image/manifests/v1", "")
	w.want(t, http.StatusOK, http.MethodGet, "/v2/image/manifests/v1", "", "X-Registry", "b")
}
