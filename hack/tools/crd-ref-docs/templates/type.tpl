{{- define "type" -}}
{{- $type := . -}}
{{- if and (markdownShouldRenderType $type) (or $type.Members $type.EnumValues $type.Validation) }}
## {{ $type.Name }}

{{ $type.Doc }}
{{ if $type.EnumValues }}
| value | meaning |
| --- | --- |
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ template "sentence" .Doc }} |
{{ end -}}
{{ else if not $type.Members }}
Limits:
{{- range $type.Validation }} {{ template "limit" . }}{{ end }}
{{ end -}}
{{ if $type.Members }}
| field | type | meaning | limits |
| --- | --- | --- | --- |
{{ if $type.GVK -}}
| `apiVersion` | string | `{{ $type.GVK.Group }}/{{ $type.GVK.Version }}` | |
| `kind` | string | `{{ $type.GVK.Kind }}` | |
{{ end -}}
{{ range $type.Members -}}
| `{{ .Name }}` | {{ markdownRenderType .Type }} | {{ template "type_members" . }} | {{ range .Validation }}{{ template "limit" . }}{{ end }} |
{{ end -}}
{{ end -}}
{{ if $type.References }}
Part of {{ range $i, $t := $type.SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $t }}{{ end }}.
{{ end -}}
{{- end -}}
{{- end -}}

{{- /* A comment on one line of a table. */ -}}
{{- define "sentence" -}}
{{ . | replace "\n" " " | replace "|" "\\|" }}
{{- end -}}

{{- /* A limit, except for being optional: a field is optional unless it says Required. */ -}}
{{- define "limit" -}}
{{- if hasPrefix "Required" . }}required<br />
{{- else if hasPrefix "Enum" . }}one of {{ trimPrefix "Enum: [" . | trimSuffix "]" | replace " " ", " }}<br />
{{- else if not (hasPrefix "Optional" .) }}{{ . | replace "|" "\\|" }}<br />
{{- end -}}
{{- end -}}
