{{- define "gvDetails" -}}
{{- $gv := . -}}
{{- /* The resource, its spec and its status come first, then the other types by name. */ -}}
{{- $first := list "FlagCache" "FlagCacheSpec" "FlagCacheStatus" -}}
API version `{{ $gv.GroupVersionString }}`.

{{ range $name := $first -}}
{{ template "type" (index $gv.Types $name) }}
{{ end -}}
{{ range $gv.SortedTypes -}}
{{ if not (has .Name $first) }}{{ template "type" . }}{{ end }}
{{- end }}
{{- end -}}
