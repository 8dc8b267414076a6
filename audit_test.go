package ociregistry

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// audited is a line of the audit log.
type audited struct {
	Logger, Msg, Registry, Client, User, Provider, Operation, Repository, Reference, Digest, Code, Reason, UUID string
	Status                                                                                                      int

	Key, Owner, Label string
}

// The audit log says who did what, and has no secrets.
func TestAuditLog(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	global := "log audit {\noutput file " + file + "\nformat json\ninclude oci_registry.audit\n}\nlog default {\nexclude oci_registry.audit\noutput discard\n}"
	site := withAuth(htpasswdAlice(t)+"\n\t\t\tchallenge basic", "policy {\nallow pull ** to *\nallow pull a/** to *\nallow push delete a/** to alice\n}")
	w.run(t, global, site)
	asAlice := &web{&http.Client{Transport: sender{"", alice, w.Transport}}, w.addr}
	if err := asAlice.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/a/tags/list", "")
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "") // asked to sign in
	w.want(t, http.StatusForbidden, http.MethodPost, "/v2/b/blobs/uploads/", "", "Authorization", alice)
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/a/tags/list", "", "Authorization", wrongPassword)
	w.run(t, global, site) // after which nobody signs in for the first time
	w.want(t, http.StatusAccepted, http.MethodDelete, "/v2/a/manifests/v1", "", "Authorization", alice)
	stop(t)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"secret", "YWxpY2U6", "$2a$"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log has %s: %s", secret, raw)
		}
	}
	want := []audited{
		{Msg: "login", User: "alice", Provider: "htpasswd", Operation: "start-upload", Repository: "a", Status: 202},
		{Msg: "push blob", User: "alice", Operation: "finish-upload", Repository: "a", Status: 201},
		{Msg: "push blob", User: "alice", Operation: "finish-upload", Repository: "a", Status: 201},
		{Msg: "push", User: "alice", Operation: "put-manifest", Repository: "a", Reference: "v1", Status: 201},
		{Msg: "denied", User: "alice", Operation: "start-upload", Repository: "b", Code: "DENIED", Status: 403},
		{Msg: "login refused", User: "alice", Operation: "list-tags", Repository: "a", Code: "UNAUTHORIZED", Status: 401},
		{Msg: "delete", User: "alice", Operation: "delete-manifest", Repository: "a", Reference: "v1", Status: 202},
	}
	lines := readLog(t, file)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), raw)
	}
	for i, line := range lines {
		var got audited
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		x := want[i]
		if got.Logger != "oci_registry.audit" || got.Registry != "inline" || got.Client != "127.0.0.1" || got.UUID == "" ||
			got.Msg != x.Msg || got.User != x.User || x.Provider != "" && got.Provider != x.Provider || got.Operation != x.Operation ||
			got.Repository != x.Repository || got.Reference != x.Reference || got.Code != x.Code || got.Status != x.Status {
			t.Errorf("line %d is %s\nwant %+v", i, line, x)
		}
		if strings.HasPrefix(got.Msg, "push") && got.Digest == "" || (got.Code != "") != (got.Reason != "") {
			t.Errorf("line %d lacks something: %s", i, line)
		}
	}
}

// What is done about API keys is in the log and in the metrics: who, from where, which
// key, and never the key itself.
func TestAuditLogOfAPIKeys(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	users := "provider http_basic {\nalice " + aliceHash + "\nroot " + aliceHash + "\n}\napi_keys"
	global := "metrics\nlog audit {\noutput file " + file + "\nformat json\ninclude oci_registry.audit\n}\nlog default {\noutput discard\n}"
	w.run(t, global, "metrics /metrics\n"+withAuth(users, "policy {\nallow pull push ** to authenticated\nadmin delete to root\n}"))
	id, secret := w.apiKey(t, `{"label":"ci"}`, "Authorization", alice)
	w.want(t, http.StatusOK, http.MethodGet, apiKeysPath, "", "Authorization", alice)
	w.want(t, http.StatusForbidden, http.MethodGet, apiKeysPath+"?all=true", "", "Authorization", alice)
	w.want(t, http.StatusUnauthorized, http.MethodGet, apiKeysPath, "", "Authorization", wrongPassword)
	w.want(t, http.StatusUnauthorized, http.MethodGet, apiKeysPath, "")
	w.want(t, http.StatusOK, http.MethodGet, apiKeysPath+"?all=true", "", "Authorization", as("root"))
	w.want(t, http.StatusOK, http.MethodGet, apiKeysPath+"?user=alice", "", "Authorization", as("root"))
	w.want(t, http.StatusOK, http.MethodGet, apiKeysPath+"/"+id, "", "Authorization", as("root"))
	w.want(t, http.StatusNoContent, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", as("root"))
	w.want(t, http.StatusMethodNotAllowed, http.MethodPut, apiKeysPath, "", "Authorization", as("root"))
	metrics := w.want(t, http.StatusOK, http.MethodGet, "/metrics", "").body
	for _, line := range []string{
		`{operation="create-key",registry="inline",status="2xx"} 1`, `{operation="list-keys",registry="inline",status="2xx"} 3`,
		`{operation="list-keys",registry="inline",status="4xx"} 3`, `{operation="get-key",registry="inline",status="2xx"} 1`,
		`{operation="delete-key",registry="inline",status="2xx"} 1`, `{operation="invalid-keys",registry="inline",status="4xx"} 1`,
	} {
		if !strings.Contains(metrics, "caddy_oci_registry_requests_total"+line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	stop(t)
	want := []audited{
		{Msg: "api key created", User: "alice", Key: id, Owner: "alice", Label: "ci"},
		{Msg: "login", User: "alice", Operation: "create-key", Status: 201, Key: id},
		{Msg: "denied", User: "alice", Operation: "list-keys", Status: 403, Code: "DENIED"},
		{Msg: "login refused", User: "alice", Operation: "list-keys", Status: 401, Code: "UNAUTHORIZED"},
		{Msg: "login", User: "root", Operation: "list-keys", Status: 200},
		{Msg: "api keys seen", User: "root", Operation: "list-keys", Status: 200, Owner: "everybody"},
		{Msg: "api keys seen", User: "root", Operation: "list-keys", Status: 200, Owner: "alice"},
		{Msg: "api keys seen", User: "root", Operation: "get-key", Status: 200, Owner: "alice", Key: id},
		{Msg: "api key revoked", User: "root", Key: id, Owner: "alice", Label: "ci"},
	}
	lines := readLog(t, file)
	for i, line := range lines {
		var got audited
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if got.Client != "127.0.0.1" || got.UUID == "" || got.Registry != "inline" || strings.Contains(line, secret) {
			t.Errorf("line %d is %s", i, line)
		}
		got.Logger, got.Client, got.UUID, got.Registry, got.Provider, got.Reason = "", "", "", "", "", ""
		if i >= len(want) || got != want[i] {
			t.Errorf("line %d is %s", i, line)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}

// Who gets a token signs in there, and once.
func TestAuditLogOfTokens(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	w.run(t, "log audit {\noutput file "+file+"\nformat json\ninclude oci_registry.audit\n}\nlog default {\noutput discard\n}", withAuth(htpasswdAlice(t)))
	w.token(t, "")
	for range 2 {
		token := w.token(t, "repository:a:pull,push", "Authorization", alice)
		w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/token", "", "Authorization", wrongPassword)
	stop(t)
	var got []string
	for _, line := range readLog(t, file) {
		var a audited
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Msg+" "+a.User+" "+a.Operation)
	}
	if want := "login alice get-token, login refused alice get-token"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
