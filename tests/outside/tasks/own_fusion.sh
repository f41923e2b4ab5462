gffnet train own_fusion.yaml --root pairs --out runs/maximum
gffnet evaluate --model runs/maximum --plugin plugin --dataset pairs --root pairs --out runs/maximum/scores
gffnet tables runs --out tables.md
gffnet publish runs/maximum --plugin plugin --out published
gffnet predict pairs/val/0.jpg --model published --plugin plugin --out predicted
