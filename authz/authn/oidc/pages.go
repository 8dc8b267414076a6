package oidc

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
)

// page is what a person sees. It has no text of a provider or of an error.
type page struct {
	Title string
	Again string // a path to try again, if that helps
	Links []link
}

type link struct{ To, Title string }

var pageHTML = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
{{- if .Links}}
<ul>
{{- range .Links}}
<li><a href="{{.To}}">{{.Title}}</a></li>
{{- end}}
</ul>
{{- end}}
{{- if .Again}}
<p><a href="{{.Again}}">Sign in</a></p>
{{- end}}
</main>
</body>
</html>
`))

func (l *Login) page(w http.ResponseWriter, status int, p page) {
	var text bytes.Buffer
	if err := pageHTML.Execute(&text, p); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // a client that's gone doesn't care
}

// choose lets somebody choose between the providers.
func (l *Login) choose(w http.ResponseWriter, back string) {
	p := page{Title: "Sign in"}
	for _, provider := range l.providers {
		q := url.Values{"provider": {provider.Name}, "return_to": {back}}
		p.Links = append(p.Links, link{l.config.Prefix + "/login?" + q.Encode(), provider.Title})
	}
	l.page(w, http.StatusOK, p)
}
