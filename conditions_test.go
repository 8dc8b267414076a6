package ociregistry

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A condition that can't be asked allows nothing. Who is refused isn't told why, and the
// operator is: once a minute in the log, and each time in the metrics.
func TestConditionsThatCantBeAsked(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "log")
	policy := "policy {\nallow pull ** to *\nallow pull push a/** to alice when cel `req.claims.team == \"x\"`\nallow push b/** to alice when cel `req.method == \"x\"`\n}"
	w.run(t, "metrics\nlog default {\noutput file "+file+"\nformat json\nlevel WARN\n}", "metrics /metrics\n"+withAuth(basicAlice, policy))
	for range 3 {
		a := w.want(t, http.StatusForbidden, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
		if strings.Contains(a.body, "team") || strings.Contains(a.body, "key") || !strings.Contains(a.body, "DENIED") {
			t.Errorf("the client is told %s", a.body)
		}
	}
	w.want(t, http.StatusForbidden, http.MethodPost, "/v2/b/blobs/uploads/", "", "Authorization", alice) // not met, which is an answer
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "")
	if metrics := w.want(t, http.StatusOK, http.MethodGet, "/metrics", "").body; !strings.Contains(metrics, `caddy_oci_registry_policy_errors_total{registry="inline"} 3`) {
		t.Errorf("the metrics have %s", metrics)
	}
	lines := readLog(t, file)
	told := 0
	for _, line := range lines {
		if strings.Contains(line, "couldn't be asked: no such key: team") && strings.Contains(line, `"pattern":"a/**"`) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the log was told %d times: %q", told, lines)
	}
}
