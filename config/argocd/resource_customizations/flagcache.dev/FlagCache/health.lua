-- The health of a FlagCache in Argo CD: Ready, Reconciling and Stalled in its terms. A canary is
-- Progressing until its verdict, and Suspended while a person has to decide.
local hs = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
local ready, stalled, reconciling
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Ready" then
    ready = condition
  elseif condition.type == "Stalled" then
    stalled = condition.status == "True"
  elseif condition.type == "Reconciling" then
    reconciling = condition.status == "True"
  end
end
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
hs.message = ready.message
if ready.reason == "Suspended" or ready.reason == "CanaryPaused" or ready.reason == "CanaryInconclusive" then
  hs.status = "Suspended"
elseif stalled then
  hs.status = "Degraded"
elseif ready.status == "True" and not reconciling then
  hs.status = "Healthy"
end
return hs
