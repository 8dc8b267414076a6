//go:build real

package tool

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Browser is Chromium without a screen, and one page in it. Its methods fail the test
// if the browser does. They aren't for several goroutines.
type Browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	last    int
	session string
}

// Chromium starts a browser with a profile of its own, which the end of the test stops.
func Chromium(t *testing.T) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium, which isn't on the PATH: run 'make setup' and try again")
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
		"--user-data-dir="+filepath.Join(home, "profile"))
	cmd.Env = append(os.Environ(), "HOME="+home)
	theirsIn, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirsOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{theirsIn, theirsOut} // 3 and 4, as the browser expects
	own(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirsIn.Close(), theirsOut.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
		_, _ = to.Close(), from.Close()
	})
	b := &Browser{t: t, to: to, from: bufio.NewReader(from)}
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	return b
}

// call sends a command of the DevTools protocol and reads until its answer, passing
// over events.
func (b *Browser) call(method string, params, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Browser) try(method string, params, result any) error {
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		return err
	}
	for {
		data, err := b.from.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(data[:len(data)-1], &answer); err != nil {
			return err
		}
		switch {
		case answer.ID != b.last:
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", method, answer.Error.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(answer.Result, result)
		}
	}
}

// Open goes to a page, as if somebody had typed its address.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
}

// Eval runs JavaScript in the page and returns its value as text.
func (b *Browser) Eval(script string) (string, error) {
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}
	err := b.try("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &answer)
	if err == nil && answer.ExceptionDetails != nil {
		err = fmt.Errorf("%s: %s", script, answer.ExceptionDetails.Text)
	}
	return fmt.Sprint(answer.Result.Value), err
}

// Cookies returns the values of the cookies that the browser sends to a site, those that
// no script can read included, by name.
func (b *Browser) Cookies(url string) map[string]string {
	b.t.Helper()
	var answer struct {
		Cookies []struct{ Name, Value string }
	}
	b.call("Network.getCookies", map[string]any{"urls": []string{url}}, &answer)
	all := make(map[string]string, len(answer.Cookies))
	for _, c := range answer.Cookies {
		all[c.Name] = c.Value
	}
	return all
}

// Until waits until a condition in JavaScript is true, whatever page that takes.
func (b *Browser) Until(condition string) {
	b.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for range 3000 {
		if v, err := b.Eval(condition); err == nil && v == "true" {
			return
		}
		<-again.C
	}
	text, err := b.Eval("location.href + ' ' + document.body.innerText")
	b.t.Fatalf("never: %s; at %s, %v", condition, text, err)
}
