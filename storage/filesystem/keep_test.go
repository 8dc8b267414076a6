package filesystem_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/beside"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keeptest.Run(t, func(t *testing.T) (one, other keep.Store, again func() keep.Store) {
				root := t.TempDir()
				s := open(t, root, opts)
				return beside.New(s), beside.New(s), func() keep.Store {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					return beside.New(open(t, root, opts))
				}
			})
		})
	}
}

// TestStateIsSecret: nobody but who runs the registry reads it, and it's no repository.
func TestStateIsSecret(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	version, err := s.SaveState(t.Context(), "token/keys", []byte("secret"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveState(t.Context(), "token/keys", []byte("secret, too"), version); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(root, "_state", "token.keys"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	for name, err := range s.Repositories(t.Context(), oci.Name{}) {
		t.Fatalf("repositories: %v, %v; want none", name, err)
	}
}

// TestStateBelongsToTheWriter: who only reads finds what the writer has saved, and
// changes nothing.
func TestStateBelongsToTheWriter(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writer := open(t, root, filesystem.Options{})
	version, err := writer.SaveState(t.Context(), "a", []byte("x"), "")
	if err != nil {
		t.Fatal(err)
	}
	standby := open(t, root, filesystem.Options{})
	if got, is, err := standby.LoadState(t.Context(), "a"); err != nil || string(got) != "x" || is != version {
		t.Fatalf("%q of version %q, %v", got, is, err)
	}
	if _, err := standby.SaveState(t.Context(), "a", []byte("y"), version); err == nil {
		t.Fatal("who only reads has saved")
	}
	if err := standby.DeleteState(t.Context(), "a", version); err == nil {
		t.Fatal("who only reads has deleted")
	}
}
