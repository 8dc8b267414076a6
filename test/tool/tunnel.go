//go:build real

package tool

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

// Tunnel is a proxy for HTTPS that says itself where an address is.
func Tunnel(where func(address string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := connect(w, r, where(r.Host)); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
}

// connect joins a client to an address, until one of the two has had enough.
func connect(w http.ResponseWriter, r *http.Request, address string) error {
	if r.Method != http.MethodConnect {
		return fmt.Errorf("%s %s isn't CONNECT", r.Method, r.URL)
	}
	var d net.Dialer
	server, err := d.DialContext(r.Context(), "tcp", address)
	if err != nil {
		return err
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return nil // it has gone away, which is its own affair
	}
	ended := make(chan struct{}, 2)
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		go func() {
			_, _ = io.Copy(to, from)
			ended <- struct{}{}
		}()
	}
	<-ended
	return nil
}
