// Command embed is a Go program that has a registry among other things, and no Caddy:
//
//	go run ./examples/embed registry-data
package main

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(os.Args) != 2 {
		log.Error("usage: embed FOLDER")
		os.Exit(2)
	}
	if err := serve("127.0.0.1:5000", os.Args[1], log); err != nil {
		log.Error("registry", "error", err)
		os.Exit(1)
	}
}

func serve(addr, folder string, log *slog.Logger) (err error) {
	store, err := filesystem.Open(folder, filesystem.Options{Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// No ReadTimeout: a push may take an hour.
	server := &http.Server{Addr: addr, Handler: mux(store, log), ReadHeaderTimeout: 10 * time.Second, ConnContext: handler.ConnContext}
	return server.ListenAndServe()
}

// mux serves the registry, which wants all of /v2/, beside what else the program does.
func mux(store storage.Store, log *slog.Logger) http.Handler {
	registry := handler.New(handler.Options{
		Store:      store,
		Authorizer: authz.AnonymousAll, // the address is this machine's own
		Log:        log,
	})
	m := http.NewServeMux()
	m.Handle("/v2/", registry)
	m.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("something else\n")) // the client may be gone
	})
	return m
}
