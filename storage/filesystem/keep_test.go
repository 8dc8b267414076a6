package filesystem_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/beside"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
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

// stateAct saves a value, or deletes one if it's empty, whatever was there.
func stateAct(key, value string) *act {
	return &act{fmt.Sprintf("have %s be %q", key, value), func(ctx context.Context, s storage.Store) error {
		k, _ := storage.As[storage.Keeper](s)
		_, version, err := k.LoadState(ctx, key)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case value == "":
			return k.DeleteState(ctx, key, version)
		}
		_, err = k.SaveState(ctx, key, []byte(value), version)
		return err
	}, func(state meaning) {
		state[key] = digest.FromString(value)
		if value == "" {
			delete(state, key)
		}
	}}
}

func stateScript() []*act {
	return []*act{
		stateAct("a", "1"), stateAct("a", "2"), stateAct("a/b", "x"),
		nil,
		stateAct("a", "3"), stateAct("a", ""), stateAct("a/b", "y"), stateAct("a", "4"),
	}
}

// TestPowerCutsOfState: what was acknowledged is there, whole and secret.
func TestPowerCutsOfState(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				steps := int64(0)
				for cutPowerOfState(t, opts, steps) {
					steps++
				}
				if steps < 30 {
					t.Errorf("the script has %d steps", steps)
				}
			})
		})
	}
}

func cutPowerOfState(t *testing.T, opts filesystem.Options, steps int64) bool {
	t.Helper()
	root, left := memoryDir(t), memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	fuse := vfs.NewFuse(memory, steps)
	p := &theatre{filesystem.AfterReboot(opts), fuse, fuse.Blown}
	at, before, after := p.play(t, stateScript())
	check(t, memory.PowerCut(left), memory.Forget(), memory.Close())
	check(t, os.RemoveAll(root))

	s := open(t, left, filesystem.AfterReboot(opts))
	got := make(meaning)
	for key, err := range s.ListState(t.Context(), "") {
		check(t, err)
		value, _, err := s.LoadState(t.Context(), key)
		if err != nil {
			t.Fatalf("cut after %d steps, in %q: %v", steps, at, err)
		}
		got[key] = digest.FromBytes(value)
		fi := must(os.Stat(filepath.Join(left, "_state", strings.ReplaceAll(key, "/", "."))))(t)
		if runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Fatalf("cut after %d steps, in %q: %s has mode %v", steps, at, key, fi.Mode())
		}
	}
	if !maps.Equal(got, before) && !maps.Equal(got, after) {
		t.Fatalf("cut after %d steps, in %q:\nthere is %v,\nwant     %v,\nor       %v", steps, at, got, before, after)
	}
	shut(t, s)
	check(t, os.RemoveAll(left))
	return fuse.Blown()
}

func TestMoveState(t *testing.T) {
	t.Parallel()
	keeptest.Move(t, func(t *testing.T) (one, other keep.Store) {
		return beside.New(open(t, t.TempDir(), filesystem.Options{})), new(keep.Memory)
	})
}
