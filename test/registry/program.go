//go:build real

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// Program returns Caddy with the registry in it, built from ./xcaddy.
func Program(t *testing.T) *tool.Tool {
	t.Helper()
	built.Do(func() { buildErr = build(t) })
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return tool.Find(t, programName)
}

const programName = "caddy"

var (
	built    sync.Once
	buildErr error
)

// build leaves the program in bin/, where the next package's tests find it up
// to date and needn't link it again. They wait for each other, since nobody may
// run what is being written.
func build(t *testing.T) (err error) {
	root := tool.Root(t)
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o750); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(bin, programName+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	_, err = tool.Go(t, root).Try("build", "-o", filepath.Join(bin, programName), "./xcaddy")
	return err
}
