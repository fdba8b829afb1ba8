{{- define "gvList" -}}
# The FlagCache API

Written from the comments in [api/](../api) by `make manifests`; do not edit.
{{ range . }}
{{ template "gvDetails" . }}
{{ end }}
{{- end -}}
