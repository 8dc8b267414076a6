//go:build real

package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Server is a program that runs until it's stopped.
type Server struct {
	// Pid is its process, and its process group.
	Pid int

	tool   *Tool
	log    lockedBuffer
	exited chan struct{} // closed when it has ended
	err    error         // how it ended, once exited is closed
}

// Start starts the program, which the end of the test stops.
func (c *Tool) Start(args ...string) *Server {
	c.t.Helper()
	cmd := exec.Command(c.path, append(append([]string(nil), c.Args...), args...)...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	s := &Server{tool: c, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	// No cancel, and so no context: how the server ends is part of what is tested.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	s.Pid = cmd.Process.Pid
	go func() {
		s.err = cmd.Wait()
		_ = syscall.Kill(-s.Pid, syscall.SIGKILL) // children it left behind
		close(s.exited)
	}()
	c.t.Cleanup(func() {
		s.Stop()
		if c.t.Failed() {
			c.t.Logf("what %s said:\n%s", filepath.Base(c.path), tail(s.Log()))
		}
	})
	return s
}

// Until waits until ready succeeds. It fails if the program ends before, or when
// ctx does. It asks again whatever goes wrong: a program that starts may open its
// port more than once.
func (s *Server) Until(ctx context.Context, ready func(context.Context) error) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return s.Ended()
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-again.C:
		}
	}
}

// Exited is closed once the program has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Log is what the program has said so far.
func (s *Server) Log() string { return s.log.String() }

// Stop asks the program to end, as Ctrl-C does, and waits until it has. One that
// doesn't within 20 seconds is killed, and fails the test; if it's written in Go, the test
// shows what its goroutines waited for.
func (s *Server) Stop() {
	select {
	case <-s.exited:
		return
	default:
	}
	_ = syscall.Kill(-s.Pid, syscall.SIGINT) // it may be gone
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		said := len(s.Log())
		_ = syscall.Kill(-s.Pid, syscall.SIGABRT) // for the runtime's traces
		select {
		case <-s.exited:
		case <-time.After(5 * time.Second):
			s.Kill()
		}
		s.tool.t.Errorf("%s didn't stop when it was told to\n%s", filepath.Base(s.tool.path), s.Log()[said:])
	}
}

// Kill ends the program and its children at once, as kill -9 does.
func (s *Server) Kill() {
	_ = syscall.Kill(-s.Pid, syscall.SIGKILL) // it may be gone
	<-s.exited
}

// Tell sends the program a signal.
func (s *Server) Tell(sig syscall.Signal) {
	s.tool.t.Helper()
	if err := syscall.Kill(s.Pid, sig); err != nil {
		s.tool.t.Fatal(err)
	}
}

// EndsWell waits for the program's end, and fails the test if it ends with an error.
func (s *Server) EndsWell() {
	s.tool.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(s.tool.Limit):
		s.tool.t.Fatalf("%s goes on and on", filepath.Base(s.tool.path))
	}
	if s.err != nil {
		s.tool.t.Fatal(s.Ended())
	}
}

// Ended says how the program ended.
func (s *Server) Ended() error {
	<-s.exited
	return fmt.Errorf("%s ended: %w\n%s", filepath.Base(s.tool.path), s.err, tail(s.Log()))
}

// lockedBuffer is a bytes.Buffer that may be read while it's written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
