{{- define "gvDetails" -}}
{{- $gv := . -}}
{{- /* The resource with its spec and status first, then the rest by name. */ -}}
{{- $first := list "FlagCache" "FlagCacheSpec" "FlagCacheStatus" -}}
Group and version `{{ $gv.GroupVersionString }}`.

{{ range $name := $first -}}
{{ template "type" (index $gv.Types $name) }}
{{ end -}}
{{ range $gv.SortedTypes -}}
{{ if not (has .Name $first) }}{{ template "type" . }}{{ end }}
{{- end }}
{{- end -}}
