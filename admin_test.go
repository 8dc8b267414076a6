package ociregistry

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// runWithAdmin is run with an admin endpoint, which is returned.
func (w *web) runWithAdmin(t *testing.T, global, site string) *web {
	t.Helper()
	admin := newWeb(t)
	config := quiet(t, w.config(t, global, site))
	load(t, withJSON(t, config, `{"listen":"`+admin.addr+`","config":{"persist":false}}`, "admin"))
	return admin
}

func TestAdminAPI(t *testing.T) {
	w := newWeb(t)
	root := t.TempDir()
	admin := w.runWithAdmin(t, "oci_registry {\nregistry main {\nroot "+root+"\n}\n}", "@b header X b\noci_registry @b main\noci_registry {\nstorage memory\nread_only\nanonymous none\n}")
	main := status{Name: "main", Storage: place{Module: "filesystem", Identity: root}, Anonymous: "pull", Ready: true}
	inline := status{Name: "inline", Storage: place{Module: "memory"}, ReadOnly: true, Anonymous: "none", Ready: true}

	var all []status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries", ""), &all)
	if !reflect.DeepEqual(all, []status{inline, main}) {
		t.Fatalf("got %+v, want %+v and %+v", all, inline, main)
	}
	var one status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/main", ""), &one)
	if !reflect.DeepEqual(one, main) {
		t.Fatalf("got %+v, want %+v", one, main)
	}
	a := admin.want(t, http.StatusNotFound, http.MethodGet, "/oci_registry/registries/other", "")
	if !strings.Contains(a.body, `there's no registry \"other\"`) {
		t.Fatal(a.body)
	}
	admin.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/oci_registry/registries", "")
	admin.want(t, http.StatusMethodNotAllowed, http.MethodDelete, "/oci_registry/registries/main", "")
}

// The admin API speaks of what runs, whatever ran when its routes were made.
func TestAdminAPIAfterReload(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", "respond hello")
	if a := admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries", ""); strings.TrimSpace(a.body) != "[]" {
		t.Fatalf("without a registry: %s", a.body)
	}
	admin = w.runWithAdmin(t, "", inMemory)
	var all []status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries", ""), &all)
	if len(all) != 1 || all[0].Name != "inline" || !all[0].Ready {
		t.Fatalf("after a reload: %+v", all)
	}
}

func TestAdminAPISaysWhyNotReady(t *testing.T) {
	w, admin := newWeb(t), newWeb(t)
	config := w.countedConfig(t, countedStorage{ID: rand.Text(), Broken: true})
	load(t, withJSON(t, config, `{"listen":"`+admin.addr+`","config":{"persist":false}}`, "admin"))
	var one status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/main", ""), &one)
	if one.Ready || !strings.Contains(one.Reason, "no space left") {
		t.Fatalf("got %+v", one)
	}
	stop(t)
}

func decode(t *testing.T, a answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}
