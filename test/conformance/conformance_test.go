//go:build real && conformance

// Package conformance runs the conformance program of the distribution-spec,
// which $CONFORMANCE names, with everything on that it can ask for. The program
// is built outside of this repository, from conformance/ of the spec's main.
package conformance

import (
	"encoding/xml"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/test/registry"
)

// everything is what the program asks for only if it's told to.
var everything = []string{
	"OCI_API_BLOBS_UPLOAD_CANCEL=true",
	"OCI_API_BLOBS_DIGEST_HEADER=true",
	"OCI_API_BLOBS_MOUNT_ANONYMOUS=true",
	"OCI_API_MANIFESTS_DIGEST_HEADER=true",
	"OCI_API_MANIFESTS_TAG_PARAM=true",
	"OCI_DATA_SHA512=true",
}

// hosts start a registry that lets manifests name what sparse says, and return
// where it is.
var hosts = map[string]func(t *testing.T, sparse storage.Sparse) (host string){
	"memory": func(t *testing.T, sparse storage.Sparse) string {
		return serve(t, memory.New(), sparse)
	},
	"filesystem": func(t *testing.T, sparse storage.Sparse) string {
		store, err := filesystem.Open(t.TempDir(), filesystem.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return serve(t, store, sparse)
	},
	"caddy": func(t *testing.T, sparse storage.Sparse) string {
		return registry.Config(t, fmt.Sprintf(`{
			admin ADMIN
			persist_config off
		}
		http://HOST {
			bind 127.0.0.1
			oci_registry {
				root %q
				anonymous all
				sparse_manifests %s
			}
		}`, t.TempDir(), sparse)).Host
	},
}

// serve serves a store, which the end of the test closes, without Caddy.
func serve(t *testing.T, store storage.Store, sparse storage.Sparse) string {
	srv := httptest.NewServer(handler.New(handler.Options{Store: store, Authorizer: authz.AnonymousAll, Sparse: sparse}))
	t.Cleanup(func() {
		srv.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestConformance(t *testing.T) {
	t.Parallel()
	program := os.Getenv("CONFORMANCE")
	if _, err := os.Stat(program); err != nil {
		t.Fatal("CONFORMANCE must name the distribution-spec's conformance program: make conformance CONFORMANCE=/path/to/conformance")
	}
	for name, start := range hosts {
		for _, version := range []string{"1.1", "dev"} {
			// The program's sparse manifests lack blobs, which the registry allows if it's told to.
			for _, sparse := range []storage.Sparse{storage.SparseIndexes, storage.SparseAll} {
				t.Run(name+"/"+version+"/sparse="+string(sparse), func(t *testing.T) {
					t.Parallel()
					got := run(t, program, append(slices.Clip(everything),
						"OCI_VERSION="+version, "OCI_REGISTRY="+start(t, sparse), fmt.Sprint("OCI_DATA_SPARSE=", sparse == storage.SparseAll)))
					if got.Tests == 0 || got.Failures+got.Errors+got.Skipped+got.Disabled > 0 {
						t.Fatalf("want no failure, no error and nothing left out, got %+v\n%s", got.counts, got.bad())
					}
				})
			}
		}
	}
}

// run runs the program and reads its report.
func run(t *testing.T, program string, env []string) suite {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir), env...)
	out, runErr := cmd.CombinedOutput()
	raw, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatalf("the program wrote no report: %v, %v\n%s", err, runErr, out)
	}
	var report struct {
		Suites []suite `xml:"testsuite"`
	}
	if err := xml.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Suites) != 1 {
		t.Fatalf("the report has %d suites, want one", len(report.Suites))
	}
	s := report.Suites[0]
	t.Logf("%d tests: %d failures, %d errors, %d skipped, %d disabled", s.Tests, s.Failures, s.Errors, s.Skipped, s.Disabled)
	if runErr != nil && s.Failures+s.Errors == 0 {
		t.Logf("the program ended with: %v", runErr)
	}
	return s
}

// suite is the part of a JUnit report that counts.
type suite struct {
	counts

	Cases []struct {
		Name      string `xml:"name,attr"`
		Status    string `xml:"status,attr"`
		SystemOut string `xml:"system-out"`
	} `xml:"testcase"`
}

type counts struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
}

// bad lists what didn't pass.
func (s *suite) bad() string {
	var b strings.Builder
	for _, c := range s.Cases {
		if c.Status != "passed" {
			fmt.Fprintf(&b, "%s %s %s\n", c.Status, c.Name, c.SystemOut)
		}
	}
	return b.String()
}
