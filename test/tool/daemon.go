//go:build real

package tool

import "time"

// await runs the program until it can talk to its server.
func (c *Tool) await(s *Server, args ...string) {
	c.t.Helper()
	deadline := time.After(c.Limit)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := c.Try(args...)
		if err == nil {
			return
		}
		select {
		case <-s.Exited():
			c.t.Fatal(s.Ended())
		case <-deadline:
			c.t.Fatal(err)
		case <-again.C:
		}
	}
}
