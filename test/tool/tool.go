//go:build real

// Package tool finds and runs the programs that tests need: registry clients,
// git, go. A program that isn't there fails the test; nothing is skipped.
package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longest is how long a program may run unless Tool.Limit says otherwise.
const longest = 2 * time.Minute

// Tool is a program, ready to be run.
type Tool struct {
	// Dir is where it runs. Default: a folder of the test's own.
	Dir string

	// Args come before those of each Run.
	Args []string

	// Env is its environment. Default: this process' own, with a home of the test.
	Env []string

	// Stdin is what it reads. Default: nothing.
	Stdin string

	// Limit is how long one run may take. Default: 2 minutes.
	Limit time.Duration

	t    *testing.T
	path string
}

// Find returns the program called name: from bin/ in the module's root, where
// 'make tools' puts it, or from the PATH.
func Find(t *testing.T, name string, args ...string) *Tool {
	t.Helper()
	path, err := locate(Root(t), name)
	if err != nil {
		t.Fatal(err)
	}
	c := At(t, path)
	c.Args = args
	return c
}

// At returns the program in the file at path. It gets a home of its own, so
// that no login, cache or setting of the user's has a part in the test.
func At(t *testing.T, path string) *Tool {
	t.Helper()
	home := t.TempDir()
	runtimeDir := filepath.Join(home, "run")
	if err := os.Mkdir(runtimeDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &Tool{
		Dir: home,
		Env: append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+runtimeDir,
			"XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME=", "DOCKER_CONFIG=", "REGISTRY_AUTH_FILE="),
		Limit: longest,
		t:     t,
		path:  path,
	}
}

func locate(root, name string) (string, error) {
	built := filepath.Join(root, "bin", name)
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("this test needs %s, which is neither in bin/ nor on the PATH: run 'make setup clients' and try again", name)
	}
	return path, nil
}

// Root is the root of the module.
func Root(t *testing.T) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		t.Fatal("the module's root can't be found in a test built with -trimpath")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Run runs the program and returns what it writes to standard output. The test
// fails if the program does.
func (c *Tool) Run(args ...string) string {
	c.t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// Lines is Run for output that is a list: its lines, without the empty ones.
func (c *Tool) Lines(args ...string) []string {
	c.t.Helper()
	return strings.FieldsFunc(c.Run(args...), func(r rune) bool { return r == '\n' || r == '\r' })
}

// Try is Run for programs that may fail. The error has what the program said.
func (c *Tool) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), c.Limit)
	defer cancel()
	all := append(append([]string(nil), c.Args...), args...)
	cmd := exec.CommandContext(ctx, c.path, all...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdin = strings.NewReader(c.Stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	own(cmd)
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(c.path), strings.Join(all, " "), err, tail(stdout.String()), tail(stderr.String()))
}

// own makes a command the head of a process group that ends with it, and with
// this process.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
}

// tail keeps the end of what a program said, where the reason is.
func tail(s string) string {
	const most = 4 << 10
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

// Go returns the go command, which runs in dir, with the user's caches.
func Go(t *testing.T, dir string) *Tool {
	t.Helper()
	c := Find(t, "go")
	c.Dir, c.Env, c.Limit = dir, os.Environ(), 10*time.Minute
	return c
}
