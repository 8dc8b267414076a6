package ociregistry

import (
	"html/template"
	"log/slog"
	"net/http"

	"github.com/caddy-oci/oci-registry/internal/origin"
)

// page says what this is to people who look at it with a browser. It loads
// nothing from elsewhere.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>OCI registry at {{.Host}}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
pre { background: #8882; padding: .75rem 1rem; overflow-x: auto }
:root { color-scheme: light dark }
</style>
<h1>OCI registry</h1>
<p>This is a registry for container images and other OCI artifacts, not a website.
Clients like docker, podman, skopeo, oras and helm find it at <code>{{.Host}}</code>:
<pre>docker pull {{.Host}}/hello:latest
{{- if not .ReadOnly}}
docker push {{.Host}}/hello:latest{{end}}</pre>
{{if .Insecure}}<p>It's reached by plain HTTP. For docker to use it, the docker daemon's
<code>daemon.json</code> needs <code>{"insecure-registries": ["{{.Host}}"]}</code>.
{{end}}<p><a href="/v2/_catalog">What it has, as JSON</a>
`))

// servePage answers with the page.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	scheme, host := h.registry.origin(r)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	err := page.Execute(w, struct {
		Host     string
		Insecure bool
		ReadOnly bool
	}{host, scheme == "http" && !origin.IsLoopback(host), h.registry.ReadOnly})
	if err != nil { // the client went away
		h.log.LogAttrs(r.Context(), slog.LevelDebug, "writing the page", slog.Any("error", err))
	}
}
