{{- define "type" -}}
{{- $type := . -}}
{{- if and (markdownShouldRenderType $type) (or $type.Members $type.EnumValues $type.Validation) }}
## {{ $type.Name }}

{{ $type.Doc }}
{{ if $type.EnumValues }}
| value | description |
| --- | --- |
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ template "line" .Doc }} |
{{ end -}}
{{ else if not $type.Members }}
Validation:
{{- range $type.Validation }} {{ template "limit" . }}{{ end }}
{{ end -}}
{{ if $type.Members }}
| field | type | description | validation |
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
Used by {{ range $i, $t := $type.SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $t }}{{ end }}.
{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Renders a comment as a single line of a table. */ -}}
{{- define "line" -}}
{{ . | replace "\n" " " | replace "|" "\\|" }}
{{- end -}}

{{- /* Renders a validation rule. Optional is omitted, as fields are optional by default. */ -}}
{{- define "limit" -}}
{{- if hasPrefix "Required" . }}required<br />
{{- else if hasPrefix "Enum" . }}one of {{ trimPrefix "Enum: [" . | trimSuffix "]" | replace " " ", " }}<br />
{{- else if not (hasPrefix "Optional" .) }}{{ . | replace "|" "\\|" }}<br />
{{- end -}}
{{- end -}}
